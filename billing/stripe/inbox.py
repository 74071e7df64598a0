"""The inbox: what Stripe tells us is kept, and acted upon afterwards.

An event says where to look, no more. It is verified and kept by the webhook's view, which
answers at once. A worker then finds what of ours it is about and asks Stripe how that stands now
(top_ups.fulfil, invoices.refresh), so the order in which events come does not matter, and neither
does how often. Seen is not done: an event is done when that question has been answered and applied.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet

from billing import payment_methods, sweeps, top_up_charges, top_ups
from billing.errors import BillingError, PaymentDoesNotMatch
from billing.models import (
    CardSetup,
    CreditNote,
    Customer,
    Invoice,
    PaymentMethod,
    Refund,
    StripeEvent,
    TopUp,
    TopUpCharge,
)
from billing.stripe import calls, facts, gateway
from billing.stripe import credit_notes as stripe_credit_notes
from billing.stripe import invoices as stripe_invoices
from billing.stripe import reversals as stripe_reversals
from billing.stripe.facts import EventFacts

EVENTS_PER_SWEEP_MAX: Final = 500
# Counted from the sweep's start: what is left when its last event begins is longer than the SDK's
# tries take together.
LEASE: Final = timedelta(minutes=4)
SWEEP_LASTS_MAX: Final = LEASE / sweeps.SHARE_OF_LEASE
TRIES_MAX: Final = 20
BACK_OFF_MIN: Final = timedelta(seconds=5)
BACK_OFF_MAX: Final = timedelta(hours=1)
# For so long an event may be about something that we are still writing down.
OURS_MAY_BE_LATE: Final = timedelta(hours=1)

logger = structlog.get_logger(__name__)


class NotOursYet(BillingError):
    """The event names us, but what it is about is not written down yet."""

    code = "not_ours_yet"


class Overtaken(BillingError):
    """A later question to Stripe is under way: whoever asked it applies a fresher answer."""

    code = "overtaken"


def receive(*, event: EventFacts, payload: str, source: str, at: datetime) -> StripeEvent | None:
    """Keep an event that was verified; None if it is here already."""
    concerns_us = (
        event.type in ACTIONS
        and event.livemode == gateway.is_live()
        and not event.of_connected_account
    )
    kept, is_new = StripeEvent.objects.get_or_create(
        event_id=event.event_id,
        defaults={
            "type": event.type,
            "object_type": event.object_type,
            "object_id": event.object_id,
            "api_version": event.api_version,
            "livemode": event.livemode,
            "source": source,
            "payload": payload,
            "stripe_created_at": event.created_at,
            "received_at": at,
            "ignored_at": None if concerns_us else at,
        },
    )
    return kept if is_new else None


def act_on_due(*, at: datetime) -> int:
    """Act on the events that wait, oldest first; how many were tried."""
    ready = _free(at).filter(Q(next_try_at__isnull=True) | Q(next_try_at__lte=at))

    def act_on_one(event_id: int) -> int:
        act_on(event_id=event_id, at=at)
        return 1

    return sweeps.each(
        list(ready.order_by("id").values_list("id", flat=True)[:EVENTS_PER_SWEEP_MAX]),
        act_on_one,
        what="event of Stripe",
        items_max=EVENTS_PER_SWEEP_MAX,
        lasts_max=SWEEP_LASTS_MAX,
    )


def act_on(*, event_id: int, at: datetime) -> None:
    """Act on one event, unless it is done, or another worker has it. A failure is tried again."""
    claimed = _claim(event_id, at=at)
    if claimed is not None:
        sweeps.attempt(
            claimed, partial(_act, at=at), what="event of Stripe", otherwise=partial(_failed, at=at)
        )


def _act(claimed: StripeEvent, *, at: datetime) -> None:
    event = facts.of_event(claimed.payload)
    try:
        is_ours = ACTIONS[event.type](event, at)
    except BillingError as error:
        _try_later(claimed, f"{error.code}: {error}", at=at)
        if isinstance(error, PaymentDoesNotMatch):
            logger.error("event of stripe does not match", stripe_event=event.event_id)
        return
    ended = "done_at" if is_ours else "ignored_at"
    _waiting().filter(pk=claimed.pk).update(**{ended: at}, leased_until=None, error="")


def _failed(claimed: StripeEvent, error: Exception, *, at: datetime) -> None:
    _try_later(claimed, f"unexpected: {error!r}", at=at)


def _about_session(event: EventFacts, at: datetime) -> bool:
    """A Checkout session: of a top-up, or of a card that is to be kept."""
    setup_id = calls.own_uuid(event.metadata, "card_setup_id")
    if setup_id is None:
        return _about_top_up(event, at)
    if not CardSetup.objects.filter(pk=setup_id).exists():
        return _late_or_not_ours(event, at)
    if not payment_methods.finish_setup(
        card_setup_id=setup_id, stripe_session_id=event.object_id, at=at
    ):
        raise Overtaken
    return True


def _about_methods(event: EventFacts, at: datetime) -> bool:
    """Something changed in what a customer keeps, or is charged with."""
    customer = Customer.objects.filter(stripe_customer_id=event.customer_id).first()
    if not event.customer_id or customer is None:
        # Of a method that was detached the event names no customer.
        known = PaymentMethod.objects.filter(stripe_payment_method_id=event.object_id)
        method = known.select_related("customer").first()
        if method is None:
            return False
        customer = method.customer
    if not payment_methods.refresh(customer_id=customer.pk, at=at):
        raise Overtaken
    return True


def _about_top_up(event: EventFacts, at: datetime) -> bool:
    top_up_id = calls.own_uuid(event.metadata, "top_up_id")
    if top_up_id is None:
        return False
    if not TopUp.objects.filter(pk=top_up_id).exists():
        return _late_or_not_ours(event, at)
    if TopUpCharge.objects.filter(top_up_id=top_up_id).exists():
        if not top_up_charges.look(
            top_up_id=top_up_id, stripe_payment_intent_id=event.object_id, at=at
        ):
            raise Overtaken
        return True
    session_id = event.object_id if event.object_type == "checkout.session" else ""
    if not top_ups.fulfil(top_up_id=top_up_id, stripe_session_id=session_id, at=at):
        raise Overtaken
    return True


def _about_refund(event: EventFacts, at: datetime) -> bool:
    refund_id = calls.own_uuid(event.metadata, "refund_id")
    if refund_id is not None and not Refund.objects.filter(pk=refund_id).exists():
        return _late_or_not_ours(event, at)
    return _applied(stripe_reversals.refresh_refund(stripe_refund_id=event.object_id, at=at))


def _about_credit_note(event: EventFacts, at: datetime) -> bool:
    note_id = calls.own_uuid(event.metadata, "credit_note_id")
    if note_id is not None and not CreditNote.objects.filter(pk=note_id).exists():
        return _late_or_not_ours(event, at)
    return stripe_credit_notes.refresh(stripe_credit_note_id=event.object_id, at=at)


def _about_dispute(event: EventFacts, at: datetime) -> bool:
    return _applied(stripe_reversals.refresh_dispute(stripe_dispute_id=event.object_id, at=at))


def _applied(found: bool | None) -> bool:
    """Whether it was of something of ours. Raises Overtaken."""
    if found is False:
        raise Overtaken
    return found is not None


def _about_invoice(event: EventFacts, at: datetime) -> bool:
    invoice_id = calls.own_uuid(event.metadata, "invoice_id")
    if invoice_id is None:
        return False
    if not Invoice.objects.filter(pk=invoice_id).exists():
        return _late_or_not_ours(event, at)
    if calls.done(operation=calls.INVOICE_CREATE, aggregate_id=invoice_id) is None:
        raise NotOursYet("Stripe's answer that made it has not been written down")
    if not stripe_invoices.refresh(invoice_id=invoice_id, at=at):
        raise Overtaken
    return True


def _late_or_not_ours(event: EventFacts, at: datetime) -> bool:
    """False: of another installation's making. Raises NotOursYet while it may yet be ours."""
    if at - event.created_at < OURS_MAY_BE_LATE:
        raise NotOursYet
    return False


Action = Callable[[EventFacts, datetime], bool]

ACTIONS: Final[dict[str, Action]] = {
    "checkout.session.completed": _about_session,
    "checkout.session.async_payment_succeeded": _about_top_up,
    "checkout.session.async_payment_failed": _about_top_up,
    "checkout.session.expired": _about_session,
    "payment_method.attached": _about_methods,
    "payment_method.automatically_updated": _about_methods,
    "payment_method.detached": _about_methods,
    "payment_method.updated": _about_methods,
    "customer.updated": _about_methods,
    "payment_intent.succeeded": _about_top_up,
    "payment_intent.payment_failed": _about_top_up,
    "refund.created": _about_refund,
    "refund.updated": _about_refund,
    "refund.failed": _about_refund,
    "credit_note.created": _about_credit_note,
    "credit_note.updated": _about_credit_note,
    "credit_note.voided": _about_credit_note,
    "charge.dispute.created": _about_dispute,
    "charge.dispute.updated": _about_dispute,
    "charge.dispute.funds_withdrawn": _about_dispute,
    "charge.dispute.funds_reinstated": _about_dispute,
    "charge.dispute.closed": _about_dispute,
    "invoice.finalized": _about_invoice,
    "invoice.finalization_failed": _about_invoice,
    "invoice.paid": _about_invoice,
    "invoice.payment_failed": _about_invoice,
    "invoice.payment_action_required": _about_invoice,
    "invoice.overdue": _about_invoice,
    "invoice.voided": _about_invoice,
    "invoice.marked_uncollectible": _about_invoice,
}


def _waiting() -> QuerySet[StripeEvent]:
    return StripeEvent.objects.filter(
        done_at__isnull=True, ignored_at__isnull=True, parked_at__isnull=True
    )


def _free(at: datetime) -> QuerySet[StripeEvent]:
    return _waiting().filter(Q(leased_until__isnull=True) | Q(leased_until__lte=at))


def _claim(event_id: int, *, at: datetime) -> StripeEvent | None:
    with transaction.atomic():
        event = _free(at).select_for_update(skip_locked=True).filter(pk=event_id).first()
        if event is None:
            return None
        event.leased_until = at + LEASE
        event.tries += 1
        event.save(update_fields=["leased_until", "tries"])
        return event


def _try_later(event: StripeEvent, error: str, *, at: datetime) -> None:
    give_up = event.tries >= TRIES_MAX
    wait = min(BACK_OFF_MIN * 2 ** min(event.tries - 1, 12), BACK_OFF_MAX)
    _waiting().filter(pk=event.pk).update(
        leased_until=None,
        next_try_at=at + wait,
        error=error,
        parked_at=at if give_up else None,
    )
    if give_up:
        logger.error("event of stripe given up", stripe_event=event.event_id, error=error)
