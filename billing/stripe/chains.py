"""What each call sends, and what follows when Stripe has done it.

    customer.create ─▶ (the customer is known at Stripe) ─▶ card.attach ─▶ (kept) ─▶ card.default
    top_up.tax ─▶ top_up.charge ─▶ (paid and granted, or declined)
    setup.create    ─▶ (the customer can give a card)           card.detach ─▶ (gone)
    checkout.create ─▶ (the buyer can pay)
    invoice.create ─▶ invoice.lines.0 ─▶ … ─▶ invoice.verify ─▶ invoice.finalize ─▶ invoice.pay
                                                                                └▶ invoice.send
    refund.create ─▶ (the money goes back)
    credit_note.preview ─▶ credit_note.create ─▶ (the invoice asks for less, or money goes back)

`verify` reads the draft back and compares it with our lines: an invoice that differs is never
finalized. A call's effect and the next call are written in the transaction that marks it done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from billing import (
    credit_notes,
    customers,
    invoicing,
    money,
    payment_methods,
    refunds,
    tax_location,
    top_up_charges,
    top_ups,
)
from billing.errors import PaymentDoesNotMatch, StripeRefused, StripeUnavailable
from billing.models import (
    CardSetup,
    CreditNote,
    Customer,
    Invoice,
    PaymentMethod,
    Refund,
    RefundFailure,
    StripeCall,
    TopUp,
)
from billing.stripe import calls, facts, gateway
from billing.stripe import credit_notes as stripe_credit_notes
from billing.stripe import invoices as stripe_invoices
from billing.stripe import reversals as stripe_reversals
from billing.stripe.gateway import Reply

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A call made complete with the ids that Stripe gave."""

    operation: str
    target: str
    params: Json


@dataclass(frozen=True, kw_only=True)
class Link:
    """One kind of call: how it is completed, and what its success means."""

    request: Callable[[StripeCall], Request]
    record: Callable[[StripeCall, Reply, datetime], None]


def request_of(call: StripeCall) -> Request:
    """The request, the same at every try."""
    return LINKS[calls.family(call)].request(call)


def send(call: StripeCall, request: Request) -> Reply:
    """Carry it out. Raises the gateway's errors, and PaymentDoesNotMatch.

    What Stripe refuses because it is done already (an invoice that was paid on its page) is done.
    """
    if calls.family(call) == calls.INVOICE_VERIFY:
        return _verify(call, request.target)
    if calls.family(call) == calls.CREDIT_NOTE_PREVIEW:
        return stripe_credit_notes.preview(call)
    try:
        return gateway.request(
            operation=request.operation,
            target=request.target,
            params=request.params,
            idempotency_key=call.idempotency_key,
        )
    except StripeRefused as refusal:
        if calls.family(call) == calls.CARD_DETACH:
            return _detached(request, refusal)
        if refusal.of_card or calls.family(call) not in DONE_WHEN:
            raise
        found = gateway.read_invoice(stripe_invoice_id=request.target)
        if found.body["status"] not in DONE_WHEN[calls.family(call)]:
            raise
        return found


def require_ready(call: StripeCall) -> None:
    """Raises StripeUnavailable if it is too early to send it."""
    if calls.family(call) == calls.INVOICE_PAY:
        _require_card_saved(call)
    if calls.family(call) == calls.CARD_DEFAULT:
        _require_earlier_choices_told(call)


def record(call: StripeCall, reply: Reply, *, at: datetime) -> None:
    """Write down what a done call means, and the call that follows it."""
    LINKS[calls.family(call)].record(call, reply, at)


def record_refusal(call: StripeCall, error: StripeRefused, *, at: datetime) -> None:
    """Write down what a refusal means."""
    has_no_card = error.stripe_code == "resource_missing"
    if calls.family(call) == calls.INVOICE_PAY and (error.of_card or has_no_card):
        invoicing.record_payment_failure(
            invoice=Invoice.objects.get(pk=call.aggregate_id),
            reference=error.charge_id or call.idempotency_key,
            code=error.stripe_code,
            decline_code=error.decline_code,
            message="There is no card to charge." if has_no_card else str(error),
            at=at,
        )
    if calls.family(call) in (calls.CREDIT_NOTE_PREVIEW, calls.CREDIT_NOTE_CREATE):
        note = CreditNote.objects.get(pk=call.aggregate_id)
        credit_notes.record_refusal(credit_note=note, message=str(error), at=at)
    if calls.family(call) == calls.REFUND_CREATE:
        refunds.record_failure(
            refund=Refund.objects.get(pk=call.aggregate_id),
            kind=RefundFailure.Kind.REFUSED,
            message=str(error),
            at=at,
        )

    if (
        calls.family(call) == calls.INVOICE_FINALIZE
        and error.stripe_code == tax_location.LOCATION_UNKNOWN
    ):
        tax_location.ask(invoice=Invoice.objects.get(pk=call.aggregate_id), at=at)
    if calls.family(call) in (calls.TOP_UP_TAX, calls.TOP_UP_CHARGE):
        top_up_charges.record_failure(
            top_up_id=call.aggregate_id,
            stripe_payment_intent_id=error.payment_intent_id,
            code=error.stripe_code,
            decline_code=error.decline_code,
            message=str(error),
            at=at,
        )


def _plain(call: StripeCall) -> Request:
    return Request(operation=calls.family(call), target="", params=_named(call))


def _named(call: StripeCall) -> Json:
    """The parameters, with the call's key among the metadata: so the object can be found again."""
    metadata = {**call.params["metadata"], "call_key": call.idempotency_key}
    return {**call.params, "metadata": metadata}


def _of_top_up(call: StripeCall) -> Request:
    customer = TopUp.objects.select_related("customer").get(pk=call.aggregate_id).customer
    return _of_customer(call, customer)


def _of_new_invoice(call: StripeCall) -> Request:
    customer = Invoice.objects.select_related("customer").get(pk=call.aggregate_id).customer
    return _of_customer(call, customer)


def _of_customer(call: StripeCall, customer: Customer) -> Request:
    assert customer.stripe_customer_id, "sent after customer.create"
    params = {**_named(call), "customer": customer.stripe_customer_id}
    return Request(operation=calls.family(call), target="", params=params)


def _of_invoice(call: StripeCall) -> Request:
    created = calls.done(operation=calls.INVOICE_CREATE, aggregate_id=call.aggregate_id)
    assert created is not None, "sent after invoice.create"
    return Request(operation=calls.family(call), target=created.stripe_id, params=call.params)


def _attach(call: StripeCall) -> Request:
    customer = Customer.objects.get(reference=call.aggregate_id)
    params = {**call.params, "customer": customer.stripe_customer_id}
    return Request(
        operation=calls.family(call), target=customer.stripe_payment_method_id, params=params
    )


def _make_default(call: StripeCall) -> Request:
    customer = Customer.objects.get(reference=call.aggregate_id)
    return Request(
        operation=calls.family(call), target=customer.stripe_customer_id, params=call.params
    )


def _detach(call: StripeCall) -> Request:
    method = PaymentMethod.objects.get(pk=call.aggregate_id)
    return Request(
        operation=calls.family(call), target=method.stripe_payment_method_id, params=call.params
    )


def _of_new_setup(call: StripeCall) -> Request:
    customer = CardSetup.objects.select_related("customer").get(pk=call.aggregate_id).customer
    return _of_customer(call, customer)


def _customer_made(call: StripeCall, reply: Reply, at: datetime) -> None:
    customer = Customer.objects.get(reference=call.aggregate_id)
    customers.record_at_stripe(customer_id=customer.pk, stripe_customer_id=reply.stripe_id)
    if customer.stripe_payment_method_id:
        _follow(call, calls.CARD_ATTACH, {}, at=at)


def _card_attached(call: StripeCall, reply: Reply, at: datetime) -> None:
    customer = Customer.objects.get(reference=call.aggregate_id)
    payment_methods.keep(customer=customer, facts=facts.of_method(reply.body), at=at)


def _card_default(call: StripeCall, reply: Reply, at: datetime) -> None:
    """Invoices can be charged to it from now on; nothing follows."""


def _card_detached(call: StripeCall, reply: Reply, at: datetime) -> None:
    payment_methods.record_detached(method_id=call.aggregate_id, at=at)


def _setup_opened(call: StripeCall, reply: Reply, at: datetime) -> None:
    payment_methods.record_setup_session(
        card_setup_id=call.aggregate_id,
        stripe_session_id=reply.stripe_id,
        url=reply.body.get("url") or "",
        at=at,
    )


def _of_tax(call: StripeCall) -> Request:
    customer = TopUp.objects.select_related("customer").get(pk=call.aggregate_id).customer
    params = {**call.params, "customer": customer.stripe_customer_id}
    return Request(operation=calls.family(call), target="", params=params)


def _taxed(call: StripeCall, reply: Reply, at: datetime) -> None:
    top_up_charges.record_tax(
        top_up_id=call.aggregate_id,
        minor_units=reply.body["amount_total"],
        calculation_id=reply.stripe_id,
        after=call,
        at=at,
    )


def _charged(call: StripeCall, reply: Reply, at: datetime) -> None:
    intent = facts.of_intent(reply.body)
    top_up_charges.apply(top_up_id=call.aggregate_id, intent=intent, at=at)


def _session_opened(call: StripeCall, reply: Reply, at: datetime) -> None:
    top_ups.record_session(
        top_up_id=call.aggregate_id,
        stripe_session_id=reply.stripe_id,
        url=reply.body.get("url") or "",
        at=at,
    )


def _invoice_made(call: StripeCall, reply: Reply, at: datetime) -> None:
    _write_lines(call, 0, at=at)


def _lines_added(call: StripeCall, reply: Reply, at: datetime) -> None:
    _write_lines(call, int(call.operation.rsplit(".", 1)[1]) + 1, at=at)


def _write_lines(call: StripeCall, chunk: int, *, at: datetime) -> None:
    invoice = Invoice.objects.get(pk=call.aggregate_id)
    more = calls.write_invoice_lines(invoice=invoice, chunk=chunk, after=call, at=at)
    if more is None:
        _follow(call, calls.INVOICE_VERIFY, {}, at=at)


def _verified(call: StripeCall, reply: Reply, at: datetime) -> None:
    _follow(call, calls.INVOICE_FINALIZE, {"auto_advance": False}, at=at)


def _finalized(call: StripeCall, reply: Reply, at: datetime) -> None:
    _apply(call, reply, at)
    issued = facts.of_invoice(reply.body)
    if issued.status != "open":
        return
    if issued.collection_method == "send_invoice":
        _follow(call, calls.INVOICE_SEND, {}, at=at)
    else:
        _follow(call, calls.INVOICE_PAY, {"off_session": True}, at=at)


def _credit_note_previewed(call: StripeCall, reply: Reply, at: datetime) -> None:
    _follow(call, calls.CREDIT_NOTE_CREATE, reply.body, at=at)


def _credit_note_made(call: StripeCall, reply: Reply, at: datetime) -> None:
    note = CreditNote.objects.get(pk=call.aggregate_id)
    credit_notes.record_issued(credit_note=note, told=facts.of_credit_note(reply.body), at=at)


def _as_it_is(call: StripeCall) -> Request:
    return Request(operation=calls.family(call), target="", params=call.params)


def _refund_made(call: StripeCall, reply: Reply, at: datetime) -> None:
    refund = Refund.objects.get(pk=call.aggregate_id)
    stripe_reversals.apply_refund(refund=refund, told=facts.of_refund(reply.body), at=at)


def _apply(call: StripeCall, reply: Reply, at: datetime) -> None:
    invoice = Invoice.objects.select_for_update(no_key=True).get(pk=call.aggregate_id)
    stripe_invoices.apply(invoice=invoice, facts=facts.of_invoice(reply.body), at=at)


def _follow(call: StripeCall, operation: str, params: Json, *, at: datetime) -> None:
    calls.write(
        operation=operation, aggregate_id=call.aggregate_id, params=params, after=call, at=at
    )


def _require_card_saved(call: StripeCall) -> None:
    """A charge that comes before the card would be refused. Raises StripeUnavailable."""
    customer = Invoice.objects.select_related("customer").get(pk=call.aggregate_id).customer
    if calls.default_under_way(customer=customer):
        raise StripeUnavailable("the customer's card is still being saved")


def _require_earlier_choices_told(call: StripeCall) -> None:
    """Else the earlier choice might reach Stripe last. Raises StripeUnavailable."""
    earlier = StripeCall.objects.filter(
        aggregate_id=call.aggregate_id,
        operation=call.operation,
        attempt__lt=call.attempt,
        done_at__isnull=True,
        refused_at__isnull=True,
        parked_at__isnull=True,
    )
    if earlier.exists():
        raise StripeUnavailable("an earlier choice is still on its way")


def _detached(request: Request, refusal: StripeRefused) -> Reply:
    """What is refused because nobody keeps the method any more is done."""
    found = gateway.payment_method(stripe_payment_method_id=request.target)
    if found.body.get("customer"):
        raise refusal
    return found


def _verify(call: StripeCall, stripe_invoice_id: str) -> Reply:
    """Compare the draft with our lines, to the minor unit. Raises PaymentDoesNotMatch."""
    invoice = Invoice.objects.get(pk=call.aggregate_id)
    ours = {str(line.pk): money.to_minor_units(line.amount) for line in invoice.lines.all()}
    facts = gateway.invoice(stripe_invoice_id=stripe_invoice_id)
    lines = gateway.invoice_lines(stripe_invoice_id=stripe_invoice_id)
    for field, expected, found in (
        ("currency", invoice.currency, facts.currency),
        ("lines", len(ours), len(lines)),
        ("line amounts", ours, {line.line_id: line.amount for line in lines}),
        ("subtotal", sum(ours.values()), facts.subtotal),
    ):
        if expected != found:
            raise PaymentDoesNotMatch(field=field, expected=expected, found=found)
    return Reply(stripe_id=stripe_invoice_id, request_id="", http_status=200, body={})


# What an invoice's status is once the call has been carried out, by whomever.
DONE_WHEN: Final = {
    calls.INVOICE_FINALIZE: stripe_invoices.ISSUED,
    calls.INVOICE_SEND: frozenset({"paid"}),
    calls.INVOICE_PAY: frozenset({"paid"}),
}

LINKS: Final[dict[str, Link]] = {
    calls.CUSTOMER_CREATE: Link(request=_plain, record=_customer_made),
    calls.CARD_ATTACH: Link(request=_attach, record=_card_attached),
    calls.CARD_DEFAULT: Link(request=_make_default, record=_card_default),
    calls.CARD_DETACH: Link(request=_detach, record=_card_detached),
    calls.TOP_UP_TAX: Link(request=_of_tax, record=_taxed),
    calls.TOP_UP_CHARGE: Link(request=_of_top_up, record=_charged),
    calls.SETUP_CREATE: Link(request=_of_new_setup, record=_setup_opened),
    calls.CHECKOUT_CREATE: Link(request=_of_top_up, record=_session_opened),
    calls.INVOICE_CREATE: Link(request=_of_new_invoice, record=_invoice_made),
    calls.INVOICE_LINES: Link(request=_of_invoice, record=_lines_added),
    calls.INVOICE_VERIFY: Link(request=_of_invoice, record=_verified),
    calls.INVOICE_FINALIZE: Link(request=_of_invoice, record=_finalized),
    calls.INVOICE_SEND: Link(request=_of_invoice, record=_apply),
    calls.INVOICE_PAY: Link(request=_of_invoice, record=_apply),
    calls.REFUND_CREATE: Link(request=_plain, record=_refund_made),
    calls.CREDIT_NOTE_PREVIEW: Link(request=_as_it_is, record=_credit_note_previewed),
    calls.CREDIT_NOTE_CREATE: Link(request=_plain, record=_credit_note_made),
}
