"""What beat runs, and how often in seconds: `celery -A config beat`.

Every task finds its work in the database, so a run that is missed is made up for by the next,
and a message that nobody took in time may be forgotten: else workers that come back after an hour
would begin with an hour's messages, and debits would wait behind them.

When that is, is written down by beat's clock and read by the worker's. They may differ by
CLOCKS_DIFFER_SECONDS_MAX: without that, a worker ten seconds ahead of beat would find every message
that is sent each five seconds too old, for as long as it is ahead. (Where clocks differ by more,
`manage.py doctor` says so, and runs of senders are refused as being ahead of us.)
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.schedules import schedstate, schedule

_BEGAN_AT: Final = datetime.now(UTC)
_BEGAN: Final = time.monotonic()
CLOCKS_DIFFER_SECONDS_MAX: Final = 600
# So a new beat does everything at once: an installation that was down is late already.
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Every(schedule):
    """Every so often, by a clock that nobody sets.

    By the machine's own, which may be put back by an hour, nothing would be due for an hour.
    """

    def now(self) -> datetime:
        return _BEGAN_AT + timedelta(seconds=time.monotonic() - _BEGAN)

    def is_due(self, last_run_at: datetime) -> schedstate:
        # The beat before us may have done it at a time that, by our clock, is still to come.
        return super().is_due(_LONG_AGO if last_run_at > self.now() else last_run_at)


def _every(seconds: float, task: str, *args: str) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": Every(seconds),
        "args": args,
        "options": {"expires": seconds + CLOCKS_DIFFER_SECONDS_MAX},
        "last_run_at": _LONG_AGO,
    }


SCHEDULE: dict[str, dict[str, Any]] = {
    "heartbeat": _every(15, "config.tasks.heartbeat", "beat"),
    "debit what a lost message left": _every(5, "ledger.tasks.sweep_intake"),
    "close lots whose time is over": _every(300, "ledger.tasks.close_lots"),
    "sweep holds that are over": _every(60, "ledger.tasks.sweep_holds"),
    "price parked runs": _every(60, "ledger.tasks.price_parked_runs"),
    "end runs of which nothing comes": _every(60, "ledger.tasks.end_quiet_runs"),
    "mark runs done again before they came": _every(60, "ledger.tasks.mark_retaken_runs"),
    "publish heads of receipts": _every(3600, "ledger.tasks.publish_heads"),
    "fold usage": _every(5, "ledger.tasks.fold_usage"),
    "open periods": _every(15, "billing.tasks.renew_due"),
    "close periods": _every(15, "billing.tasks.close_due"),
    "bill what came in late": _every(3600, "billing.tasks.bill_late"),
    "close the books": _every(60, "billing.tasks.close_books"),
    "send calls to Stripe": _every(5, "billing.tasks.send_stripe_calls"),
    "act on events of Stripe": _every(5, "billing.tasks.act_on_stripe_events"),
    "ask Stripe what it never told": _every(600, "billing.tasks.reconcile_stripe"),
    "look back at refunds and disputes": _every(21_600, "billing.tasks.look_back_at_stripe"),
    "evaluate alerts": _every(30, "billing.tasks.evaluate_alerts"),
    "buy what runs short": _every(30, "billing.tasks.buy_what_runs_short"),
    "chase payments": _every(60, "billing.tasks.chase_payments"),
    "send mail": _every(15, "billing.tasks.send_mail"),
}
