"""Text in cells of a CSV file that somebody will open as a spreadsheet.

A cell that begins with one of these signs would be taken for a formula, whoever wrote it:
https://owasp.org/www-community/attacks/CSV_Injection
"""

from typing import Final

_BEGINS_A_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def safe(text: str) -> str:
    """The text, with an apostrophe before it if it would be taken for a formula."""
    return f"'{text}" if text.startswith(_BEGINS_A_FORMULA) else text
