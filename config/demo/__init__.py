"""One month of a vendor's business, played on real parts: `manage.py demo`.

cast.py     the vendor, its prices and plans, its customers and people
traffic.py  last month's runs, the same for everybody who plays the same month
sending.py  those runs sent through the HTTP API, by a client that gives up on nothing
story.py    what happens, in order, and whether it adds up
table.py    how it is told

Everything is keyed by the month: played again, or on from where it was killed, it does nothing
twice.
"""
