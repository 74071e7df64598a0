"""The ledger's tables. Each module is one subject; the packages above import from here."""

from ledger.models.accounts import Account, Standing
from ledger.models.books import ApiKey, Book, BookMember
from ledger.models.corrections import Correction, PartedRun, Retake
from ledger.models.heads import Head
from ledger.models.holds import Hold
from ledger.models.limits import Limit, LimitExcess, LimitReview, LimitUse
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
from ledger.models.usage import Usage, UsageFold

__all__ = [
    "Account",
    "ApiKey",
    "Attribution",
    "Batch",
    "Block",
    "Book",
    "BookMember",
    "Conflict",
    "Correction",
    "Engine",
    "Entry",
    "Head",
    "Hold",
    "Intake",
    "Limit",
    "LimitExcess",
    "LimitReview",
    "LimitUse",
    "Lot",
    "Meter",
    "Operation",
    "ParkedRun",
    "PartedRun",
    "Rate",
    "RateCard",
    "RateCardVersion",
    "Retake",
    "Run",
    "Standing",
    "Submission",
    "Unit",
    "Usage",
    "UsageFold",
    "Workflow",
]
