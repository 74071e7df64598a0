"""Open a page of Stripe's while a person waits: Checkout, for tokens or a card, and its portal."""

import uuid
from datetime import datetime

from billing import payment_methods, top_ups
from billing.errors import StripeRefused, StripeUnavailable
from billing.models import CardSetup, Customer, StripeCall, TopUpSession
from billing.stripe import calls, gateway, outbox


def start(
    *,
    customer_id: int,
    pack_id: int,
    quantity: int = 1,
    keeps_card: bool = False,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> TopUpSession:
    """Begin a top-up and open its session: the buyer goes on at its `url`.

    Starting it again under the same key gives the same session, so an impatient buyer pays once.
    Raises NotForSale, InvalidInput (the quantity), KeyReused, StripeRefused, and StripeUnavailable
    (try again, same key).
    """
    top_up = top_ups.begin(
        customer_id=customer_id,
        pack_id=pack_id,
        quantity=quantity,
        keeps_card=keeps_card,
        idempotency_key=idempotency_key,
        at=at,
    )
    _send_now(top_up.customer.reference, calls.CUSTOMER_CREATE, at=at)
    _send_now(top_up.pk, calls.CHECKOUT_CREATE, at=at)
    session = TopUpSession.objects.filter(top_up=top_up).first()
    if session is None:
        _explain(calls.CHECKOUT_CREATE, top_up.pk)
        raise StripeUnavailable("the payment page could not be opened; please try again")
    return session


def start_setup(*, customer_id: int, idempotency_key: uuid.UUID, at: datetime) -> CardSetup:
    """Open the page on which a customer gives a card: it goes on at the setup's `url`.

    Raises UnknownCardSetup, StripeRefused, and StripeUnavailable (try again, same key).
    """
    setup = payment_methods.begin_setup(
        customer_id=customer_id, idempotency_key=idempotency_key, at=at
    )
    _send_now(setup.customer.reference, calls.CUSTOMER_CREATE, at=at)
    _send_now(setup.pk, calls.SETUP_CREATE, at=at)
    setup.refresh_from_db()
    if not setup.url:
        _explain(calls.SETUP_CREATE, setup.pk)
        raise StripeUnavailable("the page could not be opened; please try again")
    return setup


def open_portal(*, customer: Customer, return_url: str, idempotency_key: uuid.UUID) -> str:
    """The address of the customer's own page at Stripe: its invoices, cards, address and tax id.

    Nothing of ours changes by it. Raises StripeRefused, and StripeUnavailable, also if Stripe does
    not know the customer yet.
    """
    if not customer.stripe_customer_id:
        raise StripeUnavailable("Stripe does not know this customer yet; please try again")
    return gateway.portal_url(
        stripe_customer_id=customer.stripe_customer_id,
        return_url=return_url,
        idempotency_key=f"{calls.environment()}:portal.open:{idempotency_key}",
    )


def _send_now(aggregate_id: uuid.UUID, operation: str, *, at: datetime) -> None:
    for call in outbox.waiting().filter(aggregate_id=aggregate_id, operation=operation):
        outbox.send(call_id=call.pk, at=at)


def _explain(operation: str, aggregate_id: uuid.UUID) -> None:
    """Raises StripeRefused if that is why there is no session."""
    refused = StripeCall.objects.filter(
        operation=operation, aggregate_id=aggregate_id, refused_at__isnull=False
    ).first()
    if refused is not None:
        raise StripeRefused(refused.error_message, stripe_code=refused.error_code)
