"""Figures, each beside the limit that was measured in the same run: `python -m bench`.

One script a row: `measure` yields its figures. They work in a database of their own, which is
made for them and dropped at the end.
"""
