"""Mail to people. What is to be sent stands in the database; a worker sends it after the commit.

A message is claimed by a lease and sent outside any transaction. A worker that dies in between
leaves it to be sent again; its Message-ID is the same, so a mailbox shows it once.
"""

from datetime import datetime, timedelta
from smtplib import SMTPException
from typing import Final
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q

from billing import explain, periods
from billing.models import AlertMessage, CustomerMember

MESSAGES_PER_SWEEP_MAX: Final = 200
LEASE: Final = timedelta(minutes=5)
TOLD_ROLES: Final = (CustomerMember.Role.ADMIN, CustomerMember.Role.BUYER)

logger = structlog.get_logger(__name__)


def send_due(*, at: datetime) -> int:
    """Send the messages that wait; how many were sent."""
    waiting = AlertMessage.objects.filter(sent_at__isnull=True).order_by("id")
    ids = list(waiting.values_list("id", flat=True)[:MESSAGES_PER_SWEEP_MAX])
    return sum(_send(message_id, at=at) for message_id in ids)


def alert_mail(*, message: AlertMessage) -> EmailMessage:
    """The mail that tells of an alert: to the customer's buyers and its account manager."""
    period = message.period
    customer = period.subscription.customer
    used, granted = (
        explain.tokens(amount) for amount in (message.used_microtokens, message.granted_microtokens)
    )
    until = periods.date_text(period.ends_at, period.subscription.time_zone)
    return EmailMessage(
        subject=f"{customer}: {message.threshold} % of the tokens are used",
        body=(
            f"{customer} has used {used} of {granted} of the period that ends on {until}.\n\n"
            f"Tokens, and packs to top up: {settings.WEB_URL}/portal/\n"
        ),
        to=_recipients(message),
        headers={"Message-ID": f"<alert-{message.pk}@{urlsplit(settings.WEB_URL).hostname}>"},
    )


def _recipients(message: AlertMessage) -> list[str]:
    customer = message.period.subscription.customer
    members = customer.members.filter(role__in=TOLD_ROLES).values_list("user__email", flat=True)
    manager = customer.account_manager
    addresses = [customer.email, *members, manager.email if manager is not None else ""]
    return list(dict.fromkeys(address for address in addresses if address))


def _send(message_id: int, *, at: datetime) -> bool:
    message = _claim(message_id, at=at)
    if message is None:
        return False
    try:
        alert_mail(message=message).send()
    except (SMTPException, OSError) as error:
        logger.warning("mail not sent, tried again later", message=message.pk, error=str(error))
        return False
    AlertMessage.objects.filter(pk=message.pk).update(sent_at=at, leased_until=None)
    return True


def _claim(message_id: int, *, at: datetime) -> AlertMessage | None:
    with transaction.atomic():
        message = (
            AlertMessage.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("period__subscription__customer__account_manager")
            .filter(Q(leased_until__isnull=True) | Q(leased_until__lte=at))
            .filter(pk=message_id, sent_at__isnull=True)
            .first()
        )
        if message is not None:
            message.leased_until = at + LEASE
            message.save(update_fields=["leased_until"])
        return message
