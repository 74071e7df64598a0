"""Stripe's objects as billing sees them: our own values, made of the JSON in Stripe's answers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from djmoney.money import Money

from billing import money

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CheckoutFacts:
    """A Checkout session, and the payment made in it."""

    stripe_id: str
    status: str
    payment_status: str
    currency: str
    amount_subtotal: int
    amount_total: int
    client_reference_id: str
    customer_id: str
    livemode: bool
    url: str
    payment_intent_id: str
    payment_status_of_intent: str
    paid_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """A way to pay that a customer keeps: what people know it by."""

    stripe_id: str
    customer_id: str
    kind: str
    brand: str
    last4: str
    expires_year: int | None
    expires_month: int | None


@dataclass(frozen=True, kw_only=True)
class CustomerFacts:
    """A customer at Stripe: what it is charged with, and where it is for tax."""

    stripe_id: str
    default_method_id: str
    country: str


@dataclass(frozen=True, kw_only=True)
class SetupFacts:
    """A Checkout session in which a card is given; `method` once it was."""

    stripe_id: str
    status: str
    client_reference_id: str
    customer_id: str
    livemode: bool
    url: str
    method: MethodFacts | None


@dataclass(frozen=True, kw_only=True)
class DeclineFacts:
    """A charge that a bank declined."""

    charge_id: str
    code: str
    decline_code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class IntentFacts:
    """A payment intent; `code`, `decline_code` and `message` tell why it was refused last."""

    stripe_id: str
    status: str
    customer_id: str
    amount: Money
    metadata: dict[str, str]
    livemode: bool
    code: str
    decline_code: str
    message: str
    paid_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class InvoiceFacts:
    """An invoice at Stripe. `declines` is known only where it was read, not from other answers."""

    stripe_id: str
    status: str
    number: str
    hosted_url: str
    currency: str
    subtotal: int
    total: Money
    amount_paid: Money
    metadata: dict[str, str]
    livemode: bool
    collection_method: str
    due_at: datetime | None
    finalized_at: datetime | None
    paid_at: datetime | None
    voided_at: datetime | None
    uncollectible_at: datetime | None
    declines: tuple[DeclineFacts, ...]


@dataclass(frozen=True, kw_only=True)
class InvoiceLineFacts:
    stripe_id: str
    line_id: str
    amount: int
    currency: str


@dataclass(frozen=True, kw_only=True)
class RefundFacts:
    """A refund at Stripe."""

    stripe_id: str
    status: str
    amount: Money
    payment_intent_id: str
    metadata: dict[str, str]
    failure_reason: str


@dataclass(frozen=True, kw_only=True)
class DisputeFacts:
    """A dispute, or an inquiry that may become one."""

    stripe_id: str
    status: str
    amount: Money
    reason: str
    payment_intent_id: str
    opened_at: datetime


@dataclass(frozen=True, kw_only=True)
class CreditNoteFacts:
    """A credit note. `lines` are what it credits of the invoice's lines, by Stripe's ids."""

    stripe_id: str
    stripe_invoice_id: str
    number: str
    pdf_url: str
    subtotal: Money
    total: Money
    taken_off: Money
    paid_back: Money
    metadata: dict[str, str]
    created_at: datetime
    voided_at: datetime | None
    lines: dict[str, Money]
    amounts: dict[int, Money] = field(default_factory=dict)  # by our ids, once they are known

    def with_lines(self, ids: Mapping[str, int]) -> "CreditNoteFacts":
        """With our lines' ids in place of Stripe's."""
        known = {ids[one]: amount for one, amount in self.lines.items() if one in ids}
        return replace(self, amounts=known)


@dataclass(frozen=True, kw_only=True)
class EventFacts:
    """A signed event: what happened, and to which object. The object itself is only a hint."""

    event_id: str
    type: str
    object_type: str
    object_id: str
    metadata: dict[str, str]
    client_reference_id: str
    customer_id: str
    api_version: str
    livemode: bool
    of_connected_account: bool
    created_at: datetime


def of_event(payload: str) -> EventFacts:
    """An event that was verified before, as ours."""
    body = json.loads(payload)
    about = body["data"]["object"]
    return EventFacts(
        event_id=body["id"],
        type=body["type"],
        object_type=about.get("object", ""),
        object_id=about.get("id") or "",
        metadata=about.get("metadata") or {},
        client_reference_id=about.get("client_reference_id") or "",
        customer_id=_customer_id(about),
        api_version=body.get("api_version") or "",
        livemode=body["livemode"],
        of_connected_account=bool(body.get("account") or body.get("context")),
        created_at=datetime.fromtimestamp(body["created"], UTC),
    )


def of_checkout(body: Json) -> CheckoutFacts:
    intent = body.get("payment_intent") or {}
    if isinstance(intent, str):
        intent = {"id": intent}
    charge = intent.get("latest_charge") or {}
    return CheckoutFacts(
        stripe_id=body["id"],
        status=body.get("status") or "",
        payment_status=body["payment_status"],
        currency=(body.get("currency") or "").upper(),
        amount_subtotal=body.get("amount_subtotal") or 0,
        amount_total=body.get("amount_total") or 0,
        client_reference_id=body.get("client_reference_id") or "",
        customer_id=body.get("customer") or "",
        livemode=body["livemode"],
        url=body.get("url") or "",
        payment_intent_id=intent.get("id", ""),
        payment_status_of_intent=intent.get("status", ""),
        paid_at=_instant(charge.get("created") if isinstance(charge, dict) else None),
    )


def of_intent(body: Json) -> IntentFacts:
    error = body.get("last_payment_error") or {}
    charge = body.get("latest_charge") or {}
    return IntentFacts(
        stripe_id=body["id"],
        status=body["status"],
        customer_id=body.get("customer") or "",
        amount=money.from_minor_units(body["amount"], body["currency"]),
        metadata=body.get("metadata") or {},
        livemode=body["livemode"],
        code=error.get("code") or "",
        decline_code=error.get("decline_code") or "",
        message=error.get("message") or "",
        paid_at=_instant(charge.get("created") if isinstance(charge, dict) else None),
    )


def of_setup(body: Json) -> SetupFacts:
    intent = body.get("setup_intent") or {}
    is_done = body.get("status") == "complete" and intent.get("status") == "succeeded"
    return SetupFacts(
        stripe_id=body["id"],
        status=body.get("status") or "",
        client_reference_id=body.get("client_reference_id") or "",
        customer_id=body.get("customer") or "",
        livemode=body["livemode"],
        url=body.get("url") or "",
        method=of_method(intent["payment_method"]) if is_done else None,
    )


def of_customer(body: Json) -> CustomerFacts:
    return CustomerFacts(
        stripe_id=body["id"],
        default_method_id=(body.get("invoice_settings") or {}).get("default_payment_method") or "",
        country=(body.get("address") or {}).get("country") or "",
    )


def of_method(body: Json) -> MethodFacts:
    """A payment method in one of Stripe's answers, as ours."""
    shown = body.get(body["type"]) or {}
    return MethodFacts(
        stripe_id=body["id"],
        customer_id=body.get("customer") or "",
        kind=body["type"],
        brand=shown.get("brand") or "",
        last4=shown.get("last4") or "",
        expires_year=shown.get("exp_year"),
        expires_month=shown.get("exp_month"),
    )


def of_invoice(body: Json) -> InvoiceFacts:
    """An invoice in one of Stripe's answers, as ours."""
    currency = body["currency"].upper()
    moments = body.get("status_transitions") or {}
    return InvoiceFacts(
        stripe_id=body["id"],
        status=body["status"],
        number=body.get("number") or "",
        hosted_url=body.get("hosted_invoice_url") or "",
        currency=currency,
        subtotal=body["subtotal"],
        total=money.from_minor_units(body["total"], currency),
        amount_paid=money.from_minor_units(body["amount_paid"], currency),
        metadata=body.get("metadata") or {},
        livemode=body["livemode"],
        collection_method=body["collection_method"],
        due_at=_instant(body.get("due_date")),
        finalized_at=_instant(moments.get("finalized_at")),
        paid_at=_instant(moments.get("paid_at")),
        voided_at=_instant(moments.get("voided_at")),
        uncollectible_at=_instant(moments.get("marked_uncollectible_at")),
        declines=tuple(_declines(body)),
    )


def of_line(body: Json) -> InvoiceLineFacts:
    return InvoiceLineFacts(
        stripe_id=body["id"],
        line_id=(body.get("metadata") or {}).get("line_id", ""),
        amount=body["amount"],
        currency=body["currency"].upper(),
    )


def of_refund(body: Json) -> RefundFacts:
    """A refund in one of Stripe's answers, as ours."""
    return RefundFacts(
        stripe_id=body["id"],
        status=body.get("status") or "",
        amount=money.from_minor_units(body["amount"], body["currency"].upper()),
        payment_intent_id=body.get("payment_intent") or "",
        metadata=body.get("metadata") or {},
        failure_reason=body.get("failure_reason") or "",
    )


def of_credit_note(body: Json) -> CreditNoteFacts:
    """A credit note in one of Stripe's answers, as ours."""

    def amount(minor_units: int) -> Money:
        return money.from_minor_units(minor_units, body["currency"].upper())

    return CreditNoteFacts(
        stripe_id=body["id"],
        stripe_invoice_id=body["invoice"],
        number=body["number"],
        pdf_url=body.get("pdf") or "",
        subtotal=amount(body["subtotal"]),
        total=amount(body["total"]),
        taken_off=amount(body["pre_payment_amount"]),
        paid_back=amount(body["post_payment_amount"]),
        metadata=body.get("metadata") or {},
        created_at=datetime.fromtimestamp(body["created"], UTC),
        voided_at=_instant(body.get("voided_at")),
        lines={
            line["invoice_line_item"]: amount(line["amount"])
            for line in body["lines"]["data"]
            if line.get("invoice_line_item")
        },
    )


def of_dispute(body: Json) -> DisputeFacts:
    return DisputeFacts(
        stripe_id=body["id"],
        status=body["status"],
        amount=money.from_minor_units(body["amount"], body["currency"].upper()),
        reason=body["reason"],
        payment_intent_id=body.get("payment_intent") or "",
        opened_at=datetime.fromtimestamp(body["created"], UTC),
    )


def _declines(body: Json) -> Iterator[DeclineFacts]:
    """The last refusal of each payment of an invoice, where the answer has the payments."""
    for payment in (body.get("payments") or {}).get("data", []):
        intent = (payment.get("payment") or {}).get("payment_intent")
        error = intent.get("last_payment_error") if isinstance(intent, dict) else None
        if error and error.get("type") == "card_error":
            yield DeclineFacts(
                charge_id=error.get("charge") or "",
                code=error.get("code") or "",
                decline_code=error.get("decline_code") or "",
                message=error.get("message") or "",
            )


def _customer_id(about: Json) -> str:
    """The customer that an object is about, or is."""
    if about.get("object") == "customer":
        return about.get("id") or ""
    named = about.get("customer") or ""
    return named.get("id", "") if isinstance(named, dict) else named


def _instant(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
