"""Open accounts and find them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from zoneinfo import available_timezones

from django.conf import settings
from django.db import connection, transaction

from ledger.errors import AccountCodeTaken, Fault, InvalidAccount, UnknownAccount, UnknownRateCard
from ledger.models import Account, Book, Lot, RateCard, Standing
from ledger.sql import lock_shard, query
from ledger.units import (
    ALWAYS,
    SHARDS,
    UNBOUNDED_MICROTOKENS,
    shard_of,
    shard_of_code,
    shards_of_code,
)

DEBT_PRIORITY = 0


@dataclass(frozen=True, kw_only=True)
class AccountFacts:
    id: int
    shard: int
    book_id: int
    code: str
    name: str
    rate_card_id: int
    default_cost_centre: str


def open_account(
    *,
    book_id: int,
    code: str,
    name: str,
    rate_card_id: int,
    default_cost_centre: str = "",
    time_zone: str = "UTC",
    at: datetime,
) -> AccountFacts:
    """Open an account, with the lot that takes its debts, or return the one this code names.

    Its hours, days and months begin in `time_zone`; ledger.moving lets it move to another.

    Raises UnknownRateCard if the card is none of the book's, InvalidAccount if there is no such
    time zone, and AccountCodeTaken if the code names an account of another name or rate card.
    """
    assert code
    require_time_zone(time_zone)
    if not RateCard.objects.filter(pk=rate_card_id, book_id=book_id).exists():
        raise UnknownRateCard(rate_card_id=rate_card_id)
    with transaction.atomic():
        # One at a time in a book: the index that keeps a code unique knows of one shard only.
        Book.objects.select_for_update(no_key=True).get(pk=book_id)
        known = find_all(book_id=book_id, codes=[code]).get(code)
        if known is not None:
            if (known.name, known.rate_card_id) != (name, rate_card_id):
                raise AccountCodeTaken(account=code)
            return known
        shard = shard_of_code(book_id=book_id, code=code, shards=settings.SHARDS_IN_USE)
        lock_shard(shard)
        account = Account.objects.create(
            id=_next_id("ledger_account_number", shard),
            shard=shard,
            book_id=book_id,
            code=code,
            name=name,
            rate_card_id=rate_card_id,
            default_cost_centre=default_cost_centre,
            time_zone=time_zone,
            opened_at=at,
            debt_lot_id=next_lot_id(shard=shard),
        )
        Standing.objects.create(account_id=account.id, shard=shard)
        Lot.objects.create(
            id=account.debt_lot_id,
            shard=shard,
            account_id=account.id,
            kind=Lot.Kind.DEBT,
            source="debt",
            priority=DEBT_PRIORITY,
            issued_at=at,
            effective_at=ALWAYS,
            granted_microtokens=UNBOUNDED_MICROTOKENS,
            price_micros=0,
            currency="",
        )
        return _facts(account)


def account(*, account_id: int) -> AccountFacts:
    """Raises UnknownAccount."""
    row = Account.objects.filter(shard=shard_of(account_id), id=account_id).first()
    if row is None:
        raise UnknownAccount(account=str(account_id))
    return _facts(row)


def find(*, book_id: int, code: str) -> AccountFacts:
    """The account that a code names in a book. Raises UnknownAccount."""
    found = find_all(book_id=book_id, codes=[code])
    if code not in found:
        raise UnknownAccount(account=code)
    return found[code]


def find_all(*, book_id: int, codes: Sequence[str]) -> dict[str, AccountFacts]:
    """The accounts that these codes name in a book; codes that name none are left out."""
    places = [
        (shard, code) for code in codes for shard in shards_of_code(book_id=book_id, code=code)
    ]
    named = query(
        AccountFacts,
        "accounts_by_code",
        book_id=book_id,
        shards=[shard for shard, _ in places],
        codes=[code for _, code in places],
    )
    return {facts.code: facts for facts in named}


def is_time_zone(name: str) -> bool:
    """Whether it is in the IANA list, such as Europe/Paris."""
    return name in _time_zones()


@cache
def _time_zones() -> frozenset[str]:
    """Python walks through the zones' files for it, each time."""
    # It lists, where there is one, the machine's own as well: elsewhere that is another.
    return frozenset(available_timezones() - {"localtime"})


def require_time_zone(name: str) -> None:
    """Raises InvalidAccount."""
    if not is_time_zone(name):
        message = f"{name!r} is no time zone, such as Europe/Paris"
        raise InvalidAccount(faults=[Fault(field="time_zone", rule="exists", message=message)])


def next_lot_id(*, shard: int) -> int:
    return _next_id("ledger_lot_number", shard)


def _next_id(sequence: str, shard: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(%s)", [sequence])
        [number] = cursor.fetchone()
    return int(number) * SHARDS + shard


def _facts(row: Account) -> AccountFacts:
    return AccountFacts(
        id=row.id,
        shard=row.shard,
        book_id=row.book_id,
        code=row.code,
        name=row.name,
        rate_card_id=row.rate_card_id,
        default_cost_centre=row.default_cost_centre,
    )
