"""Find what Stripe knows and never told us, and what became of calls without an answer.

Nothing here has a way of its own: a payment whose webhook never came is fulfilled by the function
that the webhook calls. A parked call is looked up at Stripe by what it would have made: found, it
counts as done; not found, it is asked for again under a new key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog
from django.db.models import Exists, OuterRef

from billing import sweeps, top_ups
from billing.errors import BillingError, StripeClosed, StripeUnavailable
from billing.models import Customer, Invoice, StripeCall, TopUp
from billing.stripe import calls, chains, gateway, outbox
from billing.stripe import invoices as stripe_invoices
from billing.stripe.gateway import Reply

ITEMS_PER_SWEEP_MAX: Final = 200
LEFT_ALONE_FOR: Final = timedelta(minutes=5)  # the webhook comes first, nearly always
TOP_UPS_WATCHED_FOR: Final = timedelta(days=30)
CLOCKS_DIFFER_BY_MAX: Final = timedelta(minutes=10)

Item = TypeVar("Item")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """How many were looked up."""

    calls_count: int
    top_ups_count: int
    invoices_count: int


def reconcile(*, at: datetime) -> Reconciled:
    """Look up everything that should have ended by now. Stops when Stripe is away."""
    counts = {"calls_count": 0, "top_ups_count": 0, "invoices_count": 0}
    try:
        for call in _parked():
            counts["calls_count"] += _attempt(call, lambda call: settle(call=call, at=at))
        for top_up in _unfulfilled(at):
            counts["top_ups_count"] += _attempt(
                top_up, lambda top_up: top_ups.fulfil(top_up_id=top_up.pk, at=at)
            )
        for invoice in _unpaid(at):
            counts["invoices_count"] += _attempt(
                invoice, lambda invoice: stripe_invoices.refresh(invoice_id=invoice.pk, at=at)
            )
    except (StripeUnavailable, StripeClosed) as error:
        logger.warning("stripe is away: reconciliation goes on later", error=str(error))
    return Reconciled(**counts)


def settle(*, call: StripeCall, at: datetime) -> None:
    """Find out what became of a parked call, and go on from there."""
    reply = evidence(call=call)
    if reply is not None:
        outbox.adopt(call=call, reply=reply, at=at)
    elif _is_too_late(call, at):
        outbox.give_up(call=call, at=at)
    else:
        calls.write_again(call=call, params=call.params, at=at)


def evidence(*, call: StripeCall) -> Reply | None:
    """What Stripe has of a call, if it was carried out."""
    return EVIDENCE[calls.family(call)](call)


def _attempt(item: Item, look_up: Callable[[Item], object]) -> int:
    """One item's trouble must not keep the others from being looked up."""

    def look_up_one(item: Item) -> int:
        try:
            look_up(item)
        except (StripeUnavailable, StripeClosed):
            raise
        except BillingError as error:
            logger.error("reconciliation found what does not add up", error=str(error))
        return 1

    return sweeps.attempt(
        item,
        look_up_one,
        what="reconciliation",
        otherwise=lambda item, error: 1,
        ends_all=(StripeUnavailable, StripeClosed),
    )


def _parked() -> list[StripeCall]:
    """Calls whose key is no use any more, that have not been asked for again."""
    later = StripeCall.objects.filter(
        operation=OuterRef("operation"),
        aggregate_id=OuterRef("aggregate_id"),
        attempt__gt=OuterRef("attempt"),
    )
    parked = StripeCall.objects.filter(
        ~Exists(later),
        parked_at__isnull=False,
        error_code__in=[outbox.KEY_TOO_OLD, outbox.KEY_POISONED],
    )
    return list(parked.order_by("id")[:ITEMS_PER_SWEEP_MAX])


def _unfulfilled(at: datetime) -> list[TopUp]:
    open_ones = TopUp.objects.filter(
        fulfilment__isnull=True,
        session__isnull=False,
        session__expired_at__isnull=True,
        begun_at__lte=at - LEFT_ALONE_FOR,
        begun_at__gt=at - TOP_UPS_WATCHED_FOR,
    )
    return list(open_ones.order_by("sync_token", "begun_at")[:ITEMS_PER_SWEEP_MAX])


def _unpaid(at: datetime) -> list[Invoice]:
    created = StripeCall.objects.filter(
        operation=calls.INVOICE_CREATE, aggregate_id=OuterRef("pk"), done_at__isnull=False
    )
    unpaid = Invoice.objects.filter(
        Exists(created),
        payment__isnull=True,
        given_up__isnull=True,  # what becomes of it after all, an event tells
        built_at__lte=at - LEFT_ALONE_FOR,
    )
    return list(unpaid.order_by("sync_token", "built_at")[:ITEMS_PER_SWEEP_MAX])


def _is_too_late(call: StripeCall, at: datetime) -> bool:
    expires = call.params.get("expires_at")
    return expires is not None and expires < (at + timedelta(minutes=30)).timestamp()


def _since(call: StripeCall) -> datetime:
    assert call.first_sent_at is not None
    return call.first_sent_at - CLOCKS_DIFFER_BY_MAX


def _found(stripe_id: str, body: gateway.Json) -> Reply:
    return Reply(stripe_id=stripe_id, request_id="", http_status=200, body=body)


def _customer_made(call: StripeCall) -> Reply | None:
    customer = Customer.objects.get(reference=call.aggregate_id)
    for stripe_id, metadata in gateway.customers(email=call.params["email"], since=_since(call)):
        if metadata.get("customer_reference") == str(customer.reference):
            return _found(stripe_id, {})
    return None


def _session_opened(call: StripeCall) -> Reply | None:
    customer = TopUp.objects.select_related("customer").get(pk=call.aggregate_id).customer
    for facts in gateway.checkout_sessions(
        customer_id=customer.stripe_customer_id, since=_since(call)
    ):
        if facts.client_reference_id == str(call.aggregate_id):
            return _found(facts.stripe_id, {"url": facts.url})
    return None


def _invoice_made(call: StripeCall) -> Reply | None:
    customer = Invoice.objects.select_related("customer").get(pk=call.aggregate_id).customer
    for facts in gateway.invoices(customer_id=customer.stripe_customer_id, since=_since(call)):
        if facts.metadata.get("invoice_id") == str(call.aggregate_id):
            return _found(facts.stripe_id, {})
    return None


def _lines_added(call: StripeCall) -> Reply | None:
    """A call adds all its lines or none."""
    target = chains.request_of(call).target
    there = {line.line_id for line in gateway.invoice_lines(stripe_invoice_id=target)}
    wanted = {line["metadata"]["line_id"] for line in call.params["lines"]}
    return _found(target, {}) if wanted <= there else None


def _finalized(call: StripeCall) -> Reply | None:
    reply = gateway.read_invoice(stripe_invoice_id=chains.request_of(call).target)
    return None if reply.body["status"] == "draft" else reply


def _paid(call: StripeCall) -> Reply | None:
    reply = gateway.read_invoice(stripe_invoice_id=chains.request_of(call).target)
    return reply if reply.body["status"] == "paid" else None


def _unknown(call: StripeCall) -> Reply | None:
    """Doing it again does no harm."""
    return None


EVIDENCE: Final[dict[str, Callable[[StripeCall], Reply | None]]] = {
    calls.CUSTOMER_CREATE: _customer_made,
    calls.CARD_ATTACH: _unknown,
    calls.CARD_DEFAULT: _unknown,
    calls.CHECKOUT_CREATE: _session_opened,
    calls.INVOICE_CREATE: _invoice_made,
    calls.INVOICE_LINES: _lines_added,
    calls.INVOICE_VERIFY: _unknown,
    calls.INVOICE_FINALIZE: _finalized,
    calls.INVOICE_SEND: _unknown,
    calls.INVOICE_PAY: _paid,
}
