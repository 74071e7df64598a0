"""Find what Stripe knows and never told us, and what became of calls without an answer.

Nothing here has a way of its own: a payment whose webhook never came is fulfilled by the function
that the webhook calls. A parked call is looked up at Stripe by what it would have made: found, it
counts as done; not found, it is asked for again under a new key.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from django.db.models import Exists, F, OuterRef, Q

from billing import (
    disputes,
    payment_methods,
    refunds,
    sweeps,
    tax_location,
    top_up_charges,
    top_ups,
)
from billing.errors import BillingError, StripeClosed, StripeUnavailable
from billing.models import (
    CardSetup,
    Customer,
    Dispute,
    Invoice,
    Refund,
    StripeCall,
    TopUp,
    TopUpCharge,
)
from billing.stripe import calls, chains, gateway, outbox
from billing.stripe import credit_notes as stripe_credit_notes
from billing.stripe import invoices as stripe_invoices
from billing.stripe import reversals as stripe_reversals
from billing.stripe.gateway import Reply

ITEMS_PER_SWEEP_MAX: Final = 200
LEFT_ALONE_FOR: Final = timedelta(minutes=5)  # the webhook comes first, nearly always
WATCHED_FOR: Final = timedelta(days=30)
ASKED_ABOUT_EVERY: Final = timedelta(days=1)
UNANSWERED_MAX: Final = 3
LOOKED_BACK_FOR: Final = timedelta(days=3)  # as long as Stripe repeats an event
CLOCKS_DIFFER_BY_MAX: Final = timedelta(minutes=10)

Item = TypeVar("Item")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """How many were looked up."""

    calls_count: int
    top_ups_count: int
    charges_count: int
    card_setups_count: int
    invoices_count: int
    refunds_count: int
    disputes_count: int
    customers_count: int


class _StripeIsAway(Exception):
    """No use to ask on."""


class _Round:
    """Looks things up one after the other, until Stripe seems to be away altogether."""

    def __init__(self) -> None:
        self._unanswered = 0  # in a row

    def look_up(self, items: Iterable[Item], ask: Callable[[Item], object]) -> int:
        """How many were. What is wrong with one item must not keep the others from being asked."""
        return sum(self._ask(item, ask) for item in items)

    def _ask(self, item: Item, ask: Callable[[Item], object]) -> int:
        try:
            sweeps.attempt(
                item,
                ask,
                what="reconciliation",
                otherwise=lambda item, error: None,
                ends_all=(BillingError,),
            )
        except StripeClosed as error:
            raise _StripeIsAway(str(error)) from error
        except StripeUnavailable as error:
            self._unanswered += 1
            logger.warning("reconciliation: one unanswered", item=str(item), error=str(error))
            if self._unanswered >= UNANSWERED_MAX:
                raise _StripeIsAway(str(error)) from error
            return 0
        except BillingError as error:
            logger.error(
                "reconciliation found what does not add up", item=str(item), error=str(error)
            )
        self._unanswered = 0
        return 1


def reconcile(*, at: datetime) -> Reconciled:
    """Look up everything that should have ended by now.

    What Stripe does not answer waits for the next time and the others are asked; after
    UNANSWERED_MAX in a row Stripe is taken to be away, and all wait.
    """
    counts = {field.name: 0 for field in fields(Reconciled)}
    one_round = _Round()
    try:
        for name, items, ask in _questions(at):
            counts[name] = one_round.look_up(items, ask)
    except _StripeIsAway as error:
        logger.warning("stripe is away: reconciliation goes on later", error=str(error))
    return Reconciled(**counts)


def _questions(at: datetime) -> Iterator[tuple[str, Iterable[Any], Callable[[Any], object]]]:
    """What to look up, read when its turn has come, and how."""
    yield "calls_count", _parked(), lambda call: settle(call=call, at=at)
    yield (
        "top_ups_count",
        _unfulfilled(at),
        lambda top_up: top_ups.fulfil(top_up_id=top_up.pk, at=at),
    )
    yield (
        "charges_count",
        _under_way(at),
        lambda charge: top_up_charges.look(top_up_id=charge.top_up_id, at=at),
    )
    yield (
        "card_setups_count",
        _unfinished_setups(at),
        lambda setup: payment_methods.finish_setup(card_setup_id=setup.pk, at=at),
    )
    yield (
        "invoices_count",
        _unpaid(at),
        lambda invoice: stripe_invoices.refresh(invoice_id=invoice.pk, at=at),
    )
    yield "refunds_count", _refunds_under_way(at), partial(_refresh_refund, at=at)
    yield "disputes_count", _open_disputes(at), partial(_refresh_dispute, at=at)
    yield (
        "customers_count",
        _not_asked_about(at),
        lambda customer: payment_methods.refresh(customer_id=customer.pk, at=at),
    )


def look_back(*, at: datetime) -> int:
    """Look at every refund, dispute and credit note of the last days, whether or not an event told
    of it; how many there are."""
    one_round = _Round()
    since = at - LOOKED_BACK_FOR
    try:
        refunds_count = one_round.look_up(
            (told.stripe_id for told in gateway.refunds(since=since)),
            lambda one: stripe_reversals.refresh_refund(stripe_refund_id=one, at=at),
        )
        disputes_count = one_round.look_up(
            (told.stripe_id for told in gateway.disputes(since=since)),
            lambda one: stripe_reversals.refresh_dispute(stripe_dispute_id=one, at=at),
        )
        notes_count = one_round.look_up(
            (told.stripe_id for told in gateway.credit_notes(since=since)),
            lambda one: stripe_credit_notes.refresh(stripe_credit_note_id=one, at=at),
        )
        return refunds_count + disputes_count + notes_count
    except (_StripeIsAway, StripeUnavailable, StripeClosed) as error:
        logger.warning("stripe is away: it is looked back another time", error=str(error))
        return 0


def _refresh_refund(refund: Refund, *, at: datetime) -> None:
    stripe_id = refund.at_stripe.stripe_refund_id
    stripe_reversals.refresh_refund(stripe_refund_id=stripe_id, at=at)


def _refresh_dispute(dispute: Dispute, *, at: datetime) -> None:
    stripe_reversals.refresh_dispute(stripe_dispute_id=dispute.stripe_dispute_id, at=at)


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
        begun_at__gt=at - WATCHED_FOR,
    )
    return list(open_ones.order_by("sync_token", "begun_at")[:ITEMS_PER_SWEEP_MAX])


def _under_way(at: datetime) -> list[TopUpCharge]:
    """Charges that Stripe has accepted: it may take days to know."""
    begun = TopUpCharge.objects.filter(ended_at__isnull=True, begun_at__lte=at - LEFT_ALONE_FOR)
    accepted = begun.exclude(stripe_payment_intent_id="")
    return list(accepted.order_by("top_up__sync_token", "id")[:ITEMS_PER_SWEEP_MAX])


def _unfinished_setups(at: datetime) -> list[CardSetup]:
    begun = CardSetup.objects.filter(
        saved_at__isnull=True,
        expired_at__isnull=True,
        opened_at__isnull=False,
        begun_at__lte=at - LEFT_ALONE_FOR,
        begun_at__gt=at - WATCHED_FOR,
    )
    return list(begun.order_by("sync_token", "begun_at")[:ITEMS_PER_SWEEP_MAX])


def _not_asked_about(at: datetime) -> list[Customer]:
    """Customers about whom Stripe was not asked for a day, or since they bought anew, or for
    whose address an invoice waits."""
    bought = TopUp.objects.filter(
        customer=OuterRef("pk"),
        keeps_card=True,
        fulfilment__fulfilled_at__lte=at - LEFT_ALONE_FOR,
        fulfilment__fulfilled_at__gt=OuterRef("asked_at"),
    )
    waiting = tax_location.refused().filter(
        aggregate_id__in=Invoice.objects.filter(customer=OuterRef(OuterRef("pk"))).values("pk")
    )
    stale = Q(asked_at__isnull=True, opened_at__lte=at - ASKED_ABOUT_EVERY)
    known = Customer.objects.exclude(stripe_customer_id="")
    due = known.filter(
        stale | Q(asked_at__lte=at - ASKED_ABOUT_EVERY) | Exists(bought) | Exists(waiting)
    )
    return list(due.order_by(F("asked_at").asc(nulls_first=True), "id")[:ITEMS_PER_SWEEP_MAX])


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


def _refunds_under_way(at: datetime) -> list[Refund]:
    waiting = refunds.under_way().filter(asked_at__lte=at - LEFT_ALONE_FOR)
    return list(waiting.select_related("at_stripe").order_by("asked_at")[:ITEMS_PER_SWEEP_MAX])


def _open_disputes(at: datetime) -> list[Dispute]:
    waiting = disputes.open_ones().filter(opened_at__lte=at - LEFT_ALONE_FOR)
    return list(waiting.order_by("opened_at")[:ITEMS_PER_SWEEP_MAX])


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


def _charged(call: StripeCall) -> Reply | None:
    customer = TopUp.objects.select_related("customer").get(pk=call.aggregate_id).customer
    for body in gateway.payment_intents(
        customer_id=customer.stripe_customer_id, since=_since(call)
    ):
        if (body.get("metadata") or {}).get("call_key") == call.idempotency_key:
            return _found(body["id"], body)
    return None


def _setup_opened(call: StripeCall) -> Reply | None:
    customer = CardSetup.objects.select_related("customer").get(pk=call.aggregate_id).customer
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


def _credit_note_made(call: StripeCall) -> Reply | None:
    for told in gateway.credit_notes(stripe_invoice_id=call.params["invoice"]):
        if told.metadata.get("credit_note_id") == str(call.aggregate_id):
            return gateway.read_credit_note(stripe_credit_note_id=told.stripe_id)
    return None


def _refund_made(call: StripeCall) -> Reply | None:
    for facts in gateway.refunds(payment_intent_id=call.params["payment_intent"]):
        if facts.metadata.get("refund_id") == str(call.aggregate_id):
            return gateway.read_refund(stripe_refund_id=facts.stripe_id)
    return None


def _unknown(call: StripeCall) -> Reply | None:
    """Doing it again does no harm."""
    return None


EVIDENCE: Final[dict[str, Callable[[StripeCall], Reply | None]]] = {
    calls.CUSTOMER_CREATE: _customer_made,
    calls.CARD_ATTACH: _unknown,
    calls.CARD_DEFAULT: _unknown,
    calls.CARD_DETACH: _unknown,
    calls.TOP_UP_TAX: _unknown,
    calls.TOP_UP_CHARGE: _charged,
    calls.SETUP_CREATE: _setup_opened,
    calls.CHECKOUT_CREATE: _session_opened,
    calls.INVOICE_CREATE: _invoice_made,
    calls.INVOICE_LINES: _lines_added,
    calls.INVOICE_VERIFY: _unknown,
    calls.INVOICE_FINALIZE: _finalized,
    calls.INVOICE_SEND: _unknown,
    calls.INVOICE_PAY: _paid,
    calls.REFUND_CREATE: _refund_made,
    calls.CREDIT_NOTE_PREVIEW: _unknown,
    calls.CREDIT_NOTE_CREATE: _credit_note_made,
}
