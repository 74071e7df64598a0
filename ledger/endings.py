"""Lots that end sooner than they were granted for: what they were granted for has ended.

No other term of a lot ever changes, and this one never the other way. What is left in them waits
out the lots' grace, in which runs that occurred in time may still come, and is then closed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from ledger import operating, sql
from ledger.models import Lot
from ledger.operating import Writing
from ledger.units import shard_of

_KIND: Final = "end"
_MOMENT: Final = timedelta(microseconds=1)


def end_lots(
    *,
    account_id: int,
    lot_ids: Sequence[int],
    ends_at: datetime,
    idempotency_key: str,
    at: datetime,
) -> datetime:
    """Let lots of an account serve no run from `ends_at` on; from when on that really is.

    A run that was debited already, and occurred later by its own clock, keeps what it drew: they
    end right after it. Asked again it changes nothing. Takes the lock of the account's shard, and
    reads all of the account's runs. Raises IdempotencyKeyReused and UnknownAccount.
    """
    assert lot_ids
    shard = shard_of(account_id)
    digest = operating.digest_of([list(lot_ids), ends_at])
    with transaction.atomic():
        begun = operating.begin(
            account_id=account_id, key=idempotency_key, kind=_KIND, digest=digest
        )
        lots = Lot.objects.filter(shard=shard, account_id=account_id, id__in=list(lot_ids))
        if begun.known_lot_id is not None:
            return max(lot.expires_at for lot in lots if lot.expires_at is not None)
        writing = Writing(begun, kind=_KIND, digest=digest, lot_ids=lot_ids, at=at)
        [(last,)] = sql.rows("last_run_since", shard=shard, account_id=account_id, since=ends_at)
        until = ends_at if last is None else last + _MOMENT
        for lot in lots:
            _end(lot, until)
        writing.write(lot_id=lot_ids[0])
        return until


def _end(lot: Lot, until: datetime) -> None:
    assert lot.effective_at < until
    assert lot.expires_at is not None
    assert lot.closes_at is not None
    if lot.expires_at > until:
        lot.closes_at = until + (lot.closes_at - lot.expires_at)
        lot.expires_at = until
        lot.save(update_fields=["expires_at", "closes_at"])
