"""Top-ups: from wanting tokens to having them.

    begin ─▶ Checkout ─▶ paid ─▶ granted ─▶ (frozen, refunded, lost: billing.reversals)

`fulfil` is the one way from a payment to tokens. The webhook, the page the buyer comes back to and
the reconciler all call it; whoever is first grants the lot, everybody after finds it. It never
believes what it is told: it asks Stripe, and grants only what was asked for and paid.
"""

import uuid
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from djmoney.money import Money

from billing import disputes, money, packs, periods, reversals
from billing.errors import KeyReused, PaymentDisputed, PaymentDoesNotMatch, UnknownTopUp
from billing.models import Customer, TopUp, TopUpFulfilment, TopUpPack, TopUpPayment, TopUpSession
from billing.packs import Offer
from billing.stripe import calls, gateway, tokens
from billing.stripe.facts import CheckoutFacts
from ledger import grants

TOP_UP_PRIORITY: Final = 50  # as an allotment's: the lot that expires sooner serves first
TOP_UP_GRACE: Final = timedelta(hours=24)
PAID: Final = frozenset({"paid", "no_payment_required"})
FAILED_INTENT: Final = frozenset({"requires_payment_method", "canceled"})


def begin(
    *,
    customer_id: int,
    pack_id: int,
    quantity: int = 1,
    keeps_card: bool = False,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> TopUp:
    """Write down that a customer wants packs, with the call that opens its Checkout session.

    `keeps_card`: the buyer wants the card kept at Stripe, to be charged later.
    The key becomes the top-up's id: beginning it again gives the same top-up. Raises NotForSale,
    InvalidInput (the quantity), PaymentDisputed and KeyReused.
    """
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        known = TopUp.objects.filter(pk=idempotency_key).first()
        if known is not None:
            asked = (customer_id, pack_id, quantity)
            if (known.customer_id, known.pack_id, known.quantity) != asked:
                raise KeyReused(idempotency_key=idempotency_key)
            return known
        if disputes.holds_top_ups(customer_id=customer_id):
            raise PaymentDisputed(customer_id=customer_id)
        pack = TopUpPack.objects.get(pk=pack_id)
        offer = packs.offer(pack=pack, customer=customer, at=at)
        top_up = write(
            customer=customer,
            offer=offer,
            quantity=quantity,
            keeps_card=keeps_card,
            idempotency_key=idempotency_key,
            at=at,
        )
        calls.write_checkout_create(top_up=top_up, at=at)
        return top_up


def write(
    *,
    customer: Customer,
    offer: Offer,
    quantity: int = 1,
    keeps_card: bool = False,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> TopUp:
    """The purchase itself: so many packs as they are sold now. Raises InvalidInput."""
    quote = offer.quote(quantity=quantity)
    return TopUp.objects.create(
        id=idempotency_key,
        customer=customer,
        pack=offer.pack,
        quantity=quantity,
        microtokens=quote.microtokens,
        bonus_microtokens=quote.bonus_microtokens,
        price=quote.price,
        validity_months=offer.pack.validity_months,
        keeps_card=keeps_card,
        begun_at=at,
    )


def record_session(
    *, top_up_id: uuid.UUID, stripe_session_id: str, url: str, at: datetime
) -> TopUpSession:
    """The Checkout session of a top-up is open. Told again, nothing changes."""
    session, _ = TopUpSession.objects.get_or_create(
        top_up_id=top_up_id,
        defaults={"stripe_session_id": stripe_session_id, "url": url, "opened_at": at},
    )
    return session


def fulfil(*, top_up_id: uuid.UUID, stripe_session_id: str = "", at: datetime) -> bool:
    """Ask Stripe about a top-up and, if it is paid, grant its tokens: once, whoever calls.

    `stripe_session_id` helps when the answer that named the session has not reached us. False if
    a later question overtook ours: ask again. Raises UnknownTopUp, PaymentDoesNotMatch,
    StripeUnavailable and StripeRefused.
    """
    if TopUpFulfilment.objects.filter(top_up_id=top_up_id).exists():
        return True
    token = tokens.draw(TopUp, top_up_id)
    if token is None:
        raise UnknownTopUp(top_up_id=top_up_id)
    session = TopUpSession.objects.filter(top_up_id=top_up_id).first()
    session_id = stripe_session_id if session is None else session.stripe_session_id
    if not session_id:
        return True  # nothing was opened yet, so nothing can be paid
    facts = gateway.checkout_session(session_id=session_id)
    with transaction.atomic():
        top_up = (
            TopUp.objects.select_for_update(of=("self",))
            .select_related("customer")
            .get(pk=top_up_id)
        )
        if top_up.sync_token != token:
            return False
        _apply(top_up, facts, at=at)
        return True


def state(*, top_up: TopUp) -> str:
    """In a word: pending, processing, failed, expired, granted; and then, if money goes back or
    may, frozen, partly refunded, refunded or lost."""
    session = getattr(top_up, "session", None)
    charge = getattr(top_up, "charge", None)
    if hasattr(top_up, "fulfilment"):
        return _state_of_granted(top_up)
    if charge is not None:
        return "processing" if charge.failed_at is None else "failed"
    if session is None:
        return "pending"
    if session.expired_at is not None:
        return "expired"
    if session.failed_at is not None:
        return "failed"
    return "pending" if session.completed_at is None else "processing"


def _state_of_granted(top_up: TopUp) -> str:
    if any(reversals.status_of(one) == reversals.LOST for one in top_up.disputes.all()):
        return "lost"
    stands = reversals.parts(top_up=top_up, payment=top_up.payment)
    if stands.in_doubt:
        return "frozen"
    if not stands.gone:
        return "granted"
    whole = stands.gone >= money.to_minor_units(top_up.payment.amount)
    return "refunded" if whole else "partly refunded"


def _apply(top_up: TopUp, facts: CheckoutFacts, *, at: datetime) -> None:
    _require_ours(top_up, facts)
    session = record_session(
        top_up_id=top_up.pk, stripe_session_id=facts.stripe_id, url=facts.url, at=at
    )
    _note_progress(session, facts, at=at)
    if facts.status == "complete" and facts.payment_status in PAID:
        _require_amount(top_up, facts)
        grant_paid(
            top_up=top_up,
            stripe_payment_intent_id=facts.payment_intent_id,
            amount=money.from_minor_units(facts.amount_total, facts.currency),
            paid_at=facts.paid_at or at,
            at=at,
        )


def _note_progress(session: TopUpSession, facts: CheckoutFacts, *, at: datetime) -> None:
    complete = facts.status == "complete"
    unpaid = facts.payment_status not in PAID
    if complete and session.completed_at is None:
        session.completed_at = at
    if facts.status == "expired" and session.expired_at is None:
        session.expired_at = at
    failed = complete and unpaid and facts.payment_status_of_intent in FAILED_INTENT
    if failed and session.failed_at is None:
        session.failed_at = at
    session.save(update_fields=["completed_at", "expired_at", "failed_at"])


def grant_paid(
    *,
    top_up: TopUp,
    stripe_payment_intent_id: str,
    amount: Money,
    paid_at: datetime,
    at: datetime,
) -> None:
    """A payment was made: the tokens are granted. Told again, nothing changes.

    The top-up must be locked, and the payment be what was asked for.
    """
    if TopUpFulfilment.objects.filter(top_up=top_up).exists():
        return
    TopUpPayment.objects.create(
        top_up=top_up,
        stripe_payment_intent_id=stripe_payment_intent_id,
        amount=amount,
        paid_at=paid_at,
    )
    TopUpFulfilment.objects.create(
        top_up=top_up,
        lot_id=_paid_lot(top_up, paid_at, at=at),
        bonus_lot_id=_bonus_lot(top_up, paid_at, at=at),
        fulfilled_at=at,
    )


def _paid_lot(top_up: TopUp, paid_at: datetime, *, at: datetime) -> int:
    return grants.grant(
        account_id=top_up.customer.account_id,
        microtokens=top_up.microtokens,
        source="top_up",
        price_micros=money.to_micros(top_up.price),
        currency=top_up.currency,
        priority=TOP_UP_PRIORITY,
        effective_at=paid_at,
        expires_at=_expires_at(top_up, paid_at),
        grace=TOP_UP_GRACE,
        idempotency_key=f"top_up:{top_up.pk}",
        at=at,
    ).lot_id


def _bonus_lot(top_up: TopUp, paid_at: datetime, *, at: datetime) -> int | None:
    """Free tokens are a lot of their own: what was paid stays the price of what was bought."""
    if not top_up.bonus_microtokens:
        return None
    return grants.grant(
        account_id=top_up.customer.account_id,
        microtokens=top_up.bonus_microtokens,
        source="bonus",
        price_micros=0,
        currency=top_up.currency,
        priority=TOP_UP_PRIORITY,
        effective_at=paid_at,
        expires_at=_expires_at(top_up, paid_at),
        grace=TOP_UP_GRACE,
        idempotency_key=f"top_up:{top_up.pk}:bonus",
        at=at,
    ).lot_id


def _expires_at(top_up: TopUp, paid_at: datetime) -> datetime:
    return periods.months_after(
        anchor=paid_at, months=top_up.validity_months, time_zone=top_up.customer.time_zone
    )


def _require_ours(top_up: TopUp, facts: CheckoutFacts) -> None:
    for field, expected, found in (
        ("client_reference_id", str(top_up.pk), facts.client_reference_id),
        ("customer", top_up.customer.stripe_customer_id, facts.customer_id),
        ("livemode", gateway.is_live(), facts.livemode),
    ):
        if expected != found:
            raise PaymentDoesNotMatch(field=field, expected=expected, found=found)


def _require_amount(top_up: TopUp, facts: CheckoutFacts) -> None:
    """Before tax, the session must have asked for the very price of the top-up."""
    for field, expected, found in (
        ("currency", top_up.currency, facts.currency),
        ("amount_subtotal", money.to_minor_units(top_up.price), facts.amount_subtotal),
    ):
        if expected != found:
            raise PaymentDoesNotMatch(field=field, expected=expected, found=found)
