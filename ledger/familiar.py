"""Accounts and names that the intake has met before: most runs bring no new ones.

Only what is committed is remembered, and only for one revision of the book: whoever changes what
stands here (an account's rate card or default cost centre, a workflow's default) raises the
revision in the same transaction (catalog.changed), and the intake reads that before it asks.
"""

from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from django.db import transaction

from ledger.accounts import AccountFacts, find_all
from ledger.reported import Attribution

REMEMBERED_MAX: Final = 200_000

# What a run says of itself: account, workflow, project, job, cost centre, department, actor.
Names = tuple[str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who bears a run's cost, and by which card: all that follows from the run's names."""

    account_id: int
    shard: int
    rate_card_id: int
    rated_workflow: str  # empty if the card's rates do not name it
    attribution: Attribution
    attribution_key: bytes


@dataclass(frozen=True, slots=True)
class Familiar:
    """What is remembered of a book."""

    revision: int
    accounts: dict[str, AccountFacts] = field(default_factory=dict)
    bearers: dict[Names, Bearer] = field(default_factory=dict)  # their attributions are written

    @property
    def size(self) -> int:
        return len(self.accounts) + len(self.bearers)


_by_book: dict[int, Familiar] = {}


def of_book(*, book_id: int, revision: int) -> Familiar:
    """Must be given the revision as it stands now."""
    known = _by_book.get(book_id)
    if known is None or known.revision != revision:
        known = _by_book[book_id] = Familiar(revision)
    return known


def accounts_of(
    known: Familiar, *, book_id: int, codes: Collection[str]
) -> Mapping[str, AccountFacts]:
    """A book's accounts, those at least that these codes name; what was met before is not read."""
    unmet = {code for code in codes if code not in known.accounts and "\x00" not in code}
    if not unmet:
        return known.accounts
    found = find_all(book_id=book_id, codes=sorted(unmet))
    transaction.on_commit(lambda: remember_accounts(known, found))
    return ChainMap(found, known.accounts)


def remember_accounts(known: Familiar, accounts: Mapping[str, AccountFacts]) -> None:
    """To be called when the transaction that read them has been committed."""
    _make_room()
    known.accounts.update(accounts)


def remember_bearers(known: Familiar, bearers: Mapping[Names, Bearer]) -> None:
    """To be called when the transaction that wrote their attributions has been committed."""
    _make_room()
    known.bearers.update(bearers)


def _make_room() -> None:
    if sum(one.size for one in list(_by_book.values())) > REMEMBERED_MAX:
        _by_book.clear()
