"""The ledger's tables. Each module is one subject; the packages above import from here."""

from ledger.models.accounts import Account
from ledger.models.books import ApiKey, Book, BookMember
from ledger.models.heads import Head
from ledger.models.lots import Entry, Lot, Operation
from ledger.models.rates import Engine, Meter, Rate, RateCard, RateCardVersion, Unit, Workflow
from ledger.models.runs import (
    Attribution,
    Batch,
    Block,
    Conflict,
    Intake,
    ParkedRun,
    Run,
    Submission,
)

__all__ = [
    "Account",
    "ApiKey",
    "Attribution",
    "Batch",
    "Block",
    "Book",
    "BookMember",
    "Conflict",
    "Engine",
    "Entry",
    "Head",
    "Intake",
    "Lot",
    "Meter",
    "Operation",
    "ParkedRun",
    "Rate",
    "RateCard",
    "RateCardVersion",
    "Run",
    "Submission",
    "Unit",
    "Workflow",
]
