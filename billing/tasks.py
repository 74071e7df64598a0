"""Celery's way in. A task reads the clock and calls one operation.

Work is found in the database, not in the message: a message only says "look now". One that is
lost costs an interval of config/schedule.py, one that comes twice costs nothing, and so do several
workers.
"""

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
