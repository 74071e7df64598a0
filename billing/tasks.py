"""Celery's way in. A task reads the clock and calls one operation.

Work is found in the database, not in the message: a message only says "look now". One that is
lost costs an interval of config/schedule.py, one that comes twice costs nothing, and so do several
workers.
"""

from typing import Any

import kombu.exceptions
import structlog
from celery import shared_task
from django.utils import timezone

from billing import alerts, auto_top_ups, closing, dunning, mail, subscriptions
from billing.books import days
from billing.stripe import inbox, outbox, reconcile

logger = structlog.get_logger(__name__)


@shared_task
def renew_due() -> None:
    """Open the periods that start, and send the first invoices on their way."""
    if subscriptions.renew_due(at=timezone.now()):
        _wake(send_stripe_calls)


@shared_task
def close_due() -> None:
    """Close the periods whose grace is over, and send their invoices on their way."""
    if closing.close_due(at=timezone.now()):
        _wake(send_stripe_calls)


@shared_task
def bill_late() -> None:
    """Invoice what came in after customers' last closings."""
    if closing.bill_late(at=timezone.now()):
        _wake(send_stripe_calls)


@shared_task
def close_books() -> None:
    """Close the books of the days that are over: best soon after midnight (UTC)."""
    days.close_due(at=timezone.now())


@shared_task
def send_stripe_calls() -> None:
    outbox.send_due(at=timezone.now())


@shared_task
def act_on_stripe_events() -> None:
    inbox.act_on_due(at=timezone.now())


@shared_task
def evaluate_alerts() -> None:
    if alerts.evaluate(at=timezone.now()):
        _wake(send_mail)


@shared_task
def buy_what_runs_short() -> None:
    """Begin the purchases that customers want made by themselves, and have them charged."""
    if auto_top_ups.evaluate(at=timezone.now()):
        _wake(send_stripe_calls)


@shared_task
def chase_payments() -> None:
    """Take the steps that are due on invoices that are not paid."""
    if dunning.advance(at=timezone.now()):
        _wake(send_stripe_calls)
        _wake(send_mail)


@shared_task
def send_mail() -> None:
    mail.send_due(at=timezone.now())


@shared_task
def reconcile_stripe() -> None:
    reconcile.reconcile(at=timezone.now())


@shared_task
def look_back_at_stripe() -> None:
    """Refunds and disputes of the last days of which no event told."""
    reconcile.look_back(at=timezone.now())


def _wake(task: Any) -> None:
    """What was done is committed: a broker that is away costs the next interval, no more."""
    try:
        task.delay()
    except kombu.exceptions.OperationalError as error:
        logger.warning("broker away: the sweep will do it", task=task.name, error=str(error))
