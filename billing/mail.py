"""Mail to people. What is to be sent stands in the database; a worker sends it after the commit.

A message is claimed by a lease and sent outside any transaction. A worker that dies in between
leaves it to be sent again; its Message-ID is the same, so a mailbox shows it once. What no server
takes is tried again for three days, and then parked.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from smtplib import SMTPException
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.core.mail import BadHeaderError, EmailMessage
from django.db import transaction
from django.db.models import Q, QuerySet

from billing import explain, periods, sweeps
from billing.models import AlertMessage, Customer, CustomerMember, Notice

MESSAGES_PER_SWEEP_MAX: Final = 200
LEASE: Final = timedelta(minutes=5)  # counted from the sweep's start
TRIES_MAX: Final = 20  # over some three days
BACK_OFF_MIN: Final = timedelta(minutes=1)
BACK_OFF_MAX: Final = timedelta(hours=6)
PAYERS: Final = (
    CustomerMember.Role.ADMIN,
    CustomerMember.Role.BUYER,
    CustomerMember.Role.FINANCE,
)
TOLD_ROLES: Final = (CustomerMember.Role.ADMIN, CustomerMember.Role.BUYER)

Message = AlertMessage | Notice
Kind = type[AlertMessage] | type[Notice]
# What to send, and the way from it to whom it may concern.
KINDS: Final[dict[Kind, str]] = {
    AlertMessage: "period__subscription__customer__account_manager",
    Notice: "customer__account_manager",
}

logger = structlog.get_logger(__name__)


def send_due(*, at: datetime) -> int:
    """Send the messages that wait, each kind oldest first; how many were sent."""
    return sum(_send_kind(kind, at=at) for kind in KINDS)


def _send_kind(kind: Kind, *, at: datetime) -> int:
    ids = _free(kind, at).order_by("id").values_list("id", flat=True)
    return sweeps.each(
        list(ids[:MESSAGES_PER_SWEEP_MAX]),
        partial(_send, kind, at=at),
        what="mail",
        items_max=MESSAGES_PER_SWEEP_MAX,
        lasts_max=LEASE / (sweeps.SHARE_OF_LEASE * len(KINDS)),
    )


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
        to=_recipients(customer, TOLD_ROLES),
        headers={"Message-ID": f"<alert-{message.pk}@{urlsplit(settings.WEB_URL).hostname}>"},
    )


def notice_mail(*, message: Notice) -> EmailMessage:
    """The mail about a payment: to those who pay for the customer, and its account manager."""
    return EmailMessage(
        subject=message.subject,
        body=message.body,
        to=_recipients(message.customer, PAYERS),
        headers={"Message-ID": f"<notice-{message.pk}@{urlsplit(settings.WEB_URL).hostname}>"},
    )


def _mail(message: Message) -> EmailMessage:
    if isinstance(message, Notice):
        return notice_mail(message=message)
    return alert_mail(message=message)


def _recipients(customer: Customer, roles: Sequence[str]) -> list[str]:
    members = customer.members.filter(role__in=roles).values_list("user__email", flat=True)
    manager = customer.account_manager
    addresses = [customer.email, *members, manager.email if manager is not None else ""]
    return list(dict.fromkeys(address for address in addresses if address))


def _free(kind: Kind, at: datetime) -> QuerySet[Any]:
    """Messages that wait, whose time has come, and that nobody is sending."""
    return kind.objects.filter(
        Q(leased_until__isnull=True) | Q(leased_until__lte=at),
        Q(next_try_at__isnull=True) | Q(next_try_at__lte=at),
        sent_at__isnull=True,
        parked_at__isnull=True,
    )


def _send(kind: Kind, message_id: int, *, at: datetime) -> int:
    message = _claim(kind, message_id, at=at)
    if message is None:
        return 0
    return sweeps.attempt(
        message, partial(_deliver, at=at), what="mail", otherwise=partial(_try_later, at=at)
    )


def _deliver(message: Message, *, at: datetime) -> int:
    try:
        _mail(message).send()
    except (SMTPException, OSError, BadHeaderError) as error:
        logger.warning("mail not sent, tried again later", message=str(message), error=str(error))
        return _try_later(message, error, at=at)
    type(message).objects.filter(pk=message.pk).update(sent_at=at, leased_until=None, error="")
    return 1


def _try_later(message: Message, error: Exception, *, at: datetime) -> int:
    """Each time after a longer while, and in the end no more: the desk shows what it said."""
    give_up = message.tries >= TRIES_MAX
    wait = min(BACK_OFF_MIN * 2 ** min(message.tries - 1, 12), BACK_OFF_MAX)
    type(message).objects.filter(pk=message.pk, sent_at__isnull=True).update(
        leased_until=None,
        next_try_at=at + wait,
        parked_at=at if give_up else None,
        error=repr(error),
    )
    if give_up:
        logger.error("mail given up", message=str(message), error=str(error))
    return 0


def _claim(kind: Kind, message_id: int, *, at: datetime) -> Message | None:
    with transaction.atomic():
        message: Message | None = (
            _free(kind, at)
            .select_for_update(skip_locked=True, of=("self",))
            .select_related(KINDS[kind])
            .filter(pk=message_id)
            .first()
        )
        if message is not None:
            message.leased_until = at + LEASE
            message.tries += 1
            message.save(update_fields=["leased_until", "tries"])
        return message
