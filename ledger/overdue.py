"""An account whose holder owes money gets no new holds until that is settled.

Work that has happened is never refused or lost: runs are accepted and debited as ever, holds that
stand are captured, receipts and balances are read. Whoever decides a hold reads this with the
account's row locked, so what is said here holds from the next decision on, in every process.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from ledger.deciding import lock
from ledger.errors import UnknownAccount
from ledger.models import Standing
from ledger.units import shard_of


def refuse_holds(*, account_id: int, at: datetime) -> None:
    """The account gets no new holds from now on. Again, it changes nothing.

    Raises UnknownAccount.
    """
    with transaction.atomic():
        standing = _locked(account_id)
        if standing.overdue_since is None:
            _write(account_id, at)


def allow_holds(*, account_id: int) -> None:
    """What was owed is settled: holds are decided as ever. Again, it changes nothing.

    Raises UnknownAccount.
    """
    with transaction.atomic():
        _locked(account_id)
        _write(account_id, None)


def since(*, account_ids: Sequence[int]) -> dict[int, datetime]:
    """Of the accounts that get no new holds: since when."""
    standings = Standing.objects.filter(
        shard__in={shard_of(account_id) for account_id in account_ids},
        account_id__in=list(account_ids),
        overdue_since__isnull=False,
    )
    return {one.account_id: one.overdue_since for one in standings if one.overdue_since}


def _locked(account_id: int) -> Standing:
    lock(account_id)
    standing = Standing.objects.filter(shard=shard_of(account_id), account_id=account_id).first()
    if standing is None:
        raise UnknownAccount(account=str(account_id))
    return standing


def _write(account_id: int, since: datetime | None) -> None:
    Standing.objects.filter(shard=shard_of(account_id), account_id=account_id).update(
        overdue_since=since
    )
