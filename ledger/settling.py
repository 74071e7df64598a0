"""What a debit means for the holds and limits of its accounts."""

from datetime import datetime

from ledger.packing import Integers, Rows


def settle(*, shard: int, runs: Rows, micros: Integers, at: datetime) -> None:
    """Settle the holds of debited runs, and count the runs on their accounts' limits.

    Called in the debit's transaction with those RUN rows whose account has open holds or limits,
    and with what each cost in money. The caller holds the shard's lock.
    """
