"""Celery's way in. A task reads the clock and calls one operation.

Work is found in the database, not in the message: a message only says "look now". One that is lost
costs an interval of BEAT_SCHEDULE, one that comes twice costs nothing, and so do several workers.
"""

from typing import Any, Final

from celery import shared_task
from django.utils import timezone

from billing import alerts, closing, mail, subscriptions
from billing.stripe import inbox, outbox, reconcile


@shared_task
def renew_due() -> None:
    """Open the periods that start, and send the first invoices on their way."""
    if subscriptions.renew_due(at=timezone.now()):
        send_stripe_calls.delay()


@shared_task
def close_due() -> None:
    """Close the periods whose grace is over, and send their invoices on their way."""
    if closing.close_due(at=timezone.now()):
        send_stripe_calls.delay()


@shared_task
def send_stripe_calls() -> None:
    outbox.send_due(at=timezone.now())


@shared_task
def act_on_stripe_events() -> None:
    inbox.act_on_due(at=timezone.now())


@shared_task
def evaluate_alerts() -> None:
    if alerts.evaluate(at=timezone.now()):
        send_mail.delay()


@shared_task
def send_mail() -> None:
    mail.send_due(at=timezone.now())


@shared_task
def reconcile_stripe() -> None:
    reconcile.reconcile(at=timezone.now())


def _every(seconds: float, task: Any) -> dict[str, Any]:
    """A message that no worker took in time is worth nothing: the next one says the same."""
    return {"task": task.name, "schedule": seconds, "options": {"expires": 2 * seconds}}


BEAT_SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "renew_due": _every(60.0, renew_due),
    "close_due": _every(60.0, close_due),
    "send_stripe_calls": _every(5.0, send_stripe_calls),
    "act_on_stripe_events": _every(10.0, act_on_stripe_events),
    "evaluate_alerts": _every(30.0, evaluate_alerts),
    "send_mail": _every(60.0, send_mail),
    "reconcile_stripe": _every(600.0, reconcile_stripe),
}
