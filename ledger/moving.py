"""An account moves to another time zone: its hours, days and months begin at other instants.

Also those that are past: usage is shown by the days of where the account is now, and limits by day
or month count by them. Nothing of what happened changes, neither cost nor receipts nor excesses.
"""

from django.db import transaction

from ledger import accounts, folding, limits, sql
from ledger.deciding import lock
from ledger.errors import UnknownAccount
from ledger.models import Account
from ledger.units import shard_of


def move_account(*, account_id: int, time_zone: str) -> None:
    """Let an account's hours, days and months begin in this time zone; again, it changes nothing.

    Reads what its shard ever used, and every run of the account if it has limits by day or month,
    so it takes seconds where that is much. Debits of the shard wait only while what was debited
    meanwhile is counted. Raises InvalidAccount, and UnknownAccount.
    """
    accounts.require_time_zone(time_zone)
    shard = shard_of(account_id)
    with transaction.atomic():
        rows = Account.objects.filter(shard=shard, id=account_id)
        account = rows.first()
        if account is None:
            raise UnknownAccount(account=str(account_id))
        if account.time_zone == time_zone:
            return
        folding.refold_account(account_id=account_id, time_zone=time_zone)
        past = limits.past_use(account_id=account_id, time_zone=time_zone)
        # Only now: nobody should wait for a shard while blocks and runs are read.
        sql.lock_shard(shard)
        lock(account_id)
        rows.update(time_zone=time_zone)
        limits.count_anew(account_id=account_id, past=past)
