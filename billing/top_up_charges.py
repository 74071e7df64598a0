"""Top-ups for which a kept card is charged while nobody is there.

    begin ─▶ (tax) ─▶ charged by the outbox ─▶ paid ─▶ granted
                                          └▶ declined: the auto-top-up pauses, and the payer is told

One is under way at a time for a customer: the database lets no second one be begun. What became of
it is told by Stripe's answer, by an event, or by asking; whoever is first writes it down, and the
tokens are granted by the same function as those of a Checkout.
"""

import uuid
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction

from billing import (
    declines,
    explain,
    money,
    notices,
    packs,
    tax_location,
    top_ups,
)
from billing.declines import Decline
from billing.errors import PaymentDoesNotMatch, UnknownTopUp
from billing.models import AutoTopUp, AutoTopUpPause, PaymentMethod, StripeCall, TopUp, TopUpCharge
from billing.stripe import calls, gateway, tokens
from billing.stripe.facts import IntentFacts

SOFT_DECLINES_MAX: Final = 3  # in a row
TRIED_AGAIN_AFTER: Final = timedelta(days=1)
WHAT_TO_DO: Final = {
    AutoTopUpPause.Reason.AUTHENTICATION: (
        "Your bank wants you to confirm payments with this card yourself. Please buy a pack in the"
        " portal, where it can ask you, or give a card that needs no confirmation; then resume."
    ),
    AutoTopUpPause.Reason.HARD_DECLINE: (
        "Your bank does not accept this card any more. Please give another card, then resume."
    ),
    AutoTopUpPause.Reason.SOFT_DECLINE: (
        "It is tried again in a day, if tokens are still short. If you would rather not wait, give"
        " another card and resume."
    ),
    AutoTopUpPause.Reason.ADDRESS: (
        "Please give your address on your page at Stripe, to which the page of your cards leads;"
        " then resume."
    ),
    AutoTopUpPause.Reason.SOFT_DECLINES: (
        "It is not tried again by itself. Please look into it with your bank or give another card,"
        " then resume."
    ),
}


def begin(
    *,
    auto_top_up: AutoTopUp,
    quantity: int,
    method: PaymentMethod,
    month: datetime,
    available_microtokens: int,
    at: datetime,
) -> TopUpCharge:
    """Write down a purchase of so many packs, with the call that charges the card.

    The customer must be locked, and have no charge under way.
    """
    top_up = top_ups.write(
        customer=auto_top_up.customer,
        offer=packs.in_currency(pack=auto_top_up.pack, currency=auto_top_up.customer.currency),
        quantity=quantity,
        idempotency_key=uuid.uuid4(),
        at=at,
    )
    has_tax = settings.STRIPE_TAX
    charge = TopUpCharge.objects.create(
        top_up=top_up,
        customer=auto_top_up.customer,
        auto_top_up=auto_top_up,
        method=method,
        month=month.date(),
        available_microtokens=available_microtokens,
        minor_units=None if has_tax else money.to_minor_units(top_up.price),
        begun_at=at,
    )
    if has_tax:
        calls.write_top_up_tax(charge=charge, at=at)
    else:
        calls.write_top_up_charge(charge=charge, at=at)
    return charge


def record_tax(
    *, top_up_id: uuid.UUID, minor_units: int, calculation_id: str, after: StripeCall, at: datetime
) -> None:
    """What the price comes to with tax; the card is charged with that."""
    charge = _locked(top_up_id)
    if minor_units < money.to_minor_units(charge.top_up.price):
        raise PaymentDoesNotMatch(
            field="amount_total", expected=charge.top_up.price, found=minor_units
        )
    charge.minor_units = minor_units
    charge.save(update_fields=["minor_units"])
    calls.write_top_up_charge(charge=charge, calculation_id=calculation_id, after=after, at=at)


def look(*, top_up_id: uuid.UUID, stripe_payment_intent_id: str = "", at: datetime) -> bool:
    """Ask Stripe about the payment, and write down what became of it: once, whoever calls.

    False if a later question overtook ours. Raises UnknownTopUp, PaymentDoesNotMatch,
    StripeUnavailable and StripeRefused.
    """
    token = tokens.draw(TopUp, top_up_id)
    charge = TopUpCharge.objects.filter(top_up_id=top_up_id).first()
    if token is None or charge is None:
        raise UnknownTopUp(top_up_id=top_up_id)
    intent_id = charge.stripe_payment_intent_id or stripe_payment_intent_id
    if not intent_id or hasattr(charge.top_up, "fulfilment"):
        return True
    intent = gateway.payment_intent(stripe_payment_intent_id=intent_id)
    with transaction.atomic():
        top_up = TopUp.objects.select_for_update(of=("self",)).get(pk=top_up_id)
        if top_up.sync_token != token:
            return False
        apply(top_up_id=top_up_id, intent=intent, at=at)
        return True


def apply(*, top_up_id: uuid.UUID, intent: IntentFacts, at: datetime) -> None:
    """Write down how the payment stands: paid and granted, failed, or still under way."""
    charge = _locked(top_up_id)
    _require_ours(charge, intent)
    if not charge.stripe_payment_intent_id:
        charge.stripe_payment_intent_id = intent.stripe_id
        charge.save(update_fields=["stripe_payment_intent_id"])
    if intent.status == "succeeded":
        top_ups.grant_paid(
            top_up=charge.top_up,
            stripe_payment_intent_id=intent.stripe_id,
            amount=intent.amount,
            paid_at=intent.paid_at or at,
            at=at,
        )
        TopUpCharge.objects.filter(pk=charge.pk, ended_at__isnull=True).update(ended_at=at)
    elif intent.status != "processing":
        record_failure(
            top_up_id=top_up_id,
            stripe_payment_intent_id=intent.stripe_id,
            code=intent.code or intent.status,
            decline_code=intent.decline_code,
            message=intent.message or "The payment was not completed.",
            at=at,
        )


def record_failure(
    *,
    top_up_id: uuid.UUID,
    stripe_payment_intent_id: str,
    code: str,
    decline_code: str,
    message: str,
    at: datetime,
) -> None:
    """The card was not charged: the auto-top-up pauses, and people are told. Again, nothing."""
    with transaction.atomic():
        charge = _locked(top_up_id)
        if charge.ended_at is not None:
            return
        charge.stripe_payment_intent_id = (
            charge.stripe_payment_intent_id or stripe_payment_intent_id
        )
        charge.failed_at = charge.ended_at = at
        charge.code, charge.message = decline_code or code, message
        charge.save(
            update_fields=["stripe_payment_intent_id", "failed_at", "ended_at", "code", "message"]
        )
        _pause(charge, _reason(charge, code=code, decline_code=decline_code), at=at)


def _pause(charge: TopUpCharge, reason: AutoTopUpPause.Reason, *, at: datetime) -> None:
    is_short = reason == AutoTopUpPause.Reason.SOFT_DECLINE
    pause = AutoTopUpPause.objects.create(
        auto_top_up=charge.auto_top_up,
        charge=charge,
        reason=reason,
        paused_at=at,
        until=at + TRIED_AGAIN_AFTER if is_short else None,
    )
    customer = charge.customer
    notices.tell(
        customer=customer,
        about=f"auto_top_up_paused:{pause.pk}",
        subject=f"{customer}: tokens could not be bought",
        body=(
            f"{explain.tokens(charge.top_up.microtokens)} for {money.text(charge.top_up.price)}"
            f" could not be bought: {charge.method} was not charged. The answer was:"
            f" {charge.message}\n\n"
            f"Buying by itself is paused. {WHAT_TO_DO[reason]}\n\n"
            f"Auto-top-up: {notices.page(customer, 'auto-top-up/')}\n"
            f"Cards: {notices.page(customer, 'payment/')}\n"
        ),
        at=at,
    )


def _reason(charge: TopUpCharge, *, code: str, decline_code: str) -> AutoTopUpPause.Reason:
    if code == tax_location.LOCATION_UNKNOWN:
        return AutoTopUpPause.Reason.ADDRESS
    decline = declines.kind(code=code, decline_code=decline_code)
    if decline is Decline.AUTHENTICATION:
        return AutoTopUpPause.Reason.AUTHENTICATION
    if decline is Decline.HARD:
        return AutoTopUpPause.Reason.HARD_DECLINE
    if _declines_in_a_row(charge) >= SOFT_DECLINES_MAX:
        return AutoTopUpPause.Reason.SOFT_DECLINES
    return AutoTopUpPause.Reason.SOFT_DECLINE


def _declines_in_a_row(charge: TopUpCharge) -> int:
    """This one, and those before it since a charge succeeded or a person resumed."""
    count = 0
    latest = TopUpCharge.objects.filter(auto_top_up=charge.auto_top_up).select_related("pause")
    for one in latest.order_by("-id")[:SOFT_DECLINES_MAX]:
        pause = getattr(one, "pause", None)
        if one.failed_at is None or (pause is not None and pause.resumed_at is not None):
            break
        count += 1
    return count


def _locked(top_up_id: uuid.UUID) -> TopUpCharge:
    charges = TopUpCharge.objects.select_for_update(of=("self",), no_key=True)
    related = charges.select_related("top_up__customer", "customer", "auto_top_up", "method")
    return related.get(top_up_id=top_up_id)


def _require_ours(charge: TopUpCharge, intent: IntentFacts) -> None:
    for field, expected, found in (
        ("metadata.top_up_id", str(charge.top_up_id), intent.metadata.get("top_up_id")),
        ("customer", charge.customer.stripe_customer_id, intent.customer_id),
        ("livemode", gateway.is_live(), intent.livemode),
        ("currency", charge.top_up.currency, intent.amount.currency.code),
        ("amount", charge.minor_units, money.to_minor_units(intent.amount)),
    ):
        if expected != found:
            raise PaymentDoesNotMatch(field=field, expected=expected, found=found)
