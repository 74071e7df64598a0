"""The ledger in Django's admin: what a token is, what work costs, who may send it, what is left."""

from ledger.admin import accounts as accounts
from ledger.admin import books as books
from ledger.admin import keys as keys
from ledger.admin import rates as rates
from ledger.admin import words as words
