"""Scenes in which a pack has been bought, and what follows from Stripe's news."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from djmoney.money import Money

from billing import refunds, top_ups
from billing.models import Customer, Refund, TopUp
from billing.stripe import checkout, inbox, outbox
from ledger import queries
from ledger.queries import LotNow
from tests import builders
from tests.billing.stripe_world import StripeWorld, deliver
from tests.builders import TOKEN, Shop


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Bought:
    """A pack of 500 tokens, and what becomes of it."""

    stripe: StripeWorld
    shop: Shop
    customer: Customer
    top_up_id: uuid.UUID
    session_id: str

    @property
    def top_up(self) -> TopUp:
        return TopUp.objects.get(pk=self.top_up_id)

    @property
    def state(self) -> str:
        return top_ups.state(top_up=self.top_up)

    @property
    def intent_id(self) -> str:
        return self.top_up.payment.stripe_payment_intent_id

    @property
    def lot(self) -> LotNow:
        lots = queries.lots(account_ids=[self.customer.account_id])
        return next(lot for lot in lots if lot.source == "top_up")

    @property
    def left(self) -> int:
        """Tokens."""
        return self.lot.remaining_microtokens // TOKEN

    @property
    def debt(self) -> int:
        """Tokens."""
        account_id = self.customer.account_id
        balances = queries.balances(account_ids=[account_id], at=now())
        return balances[account_id].debt_microtokens // TOKEN

    def use(self, tokens: int) -> None:
        builders.use(self.customer, tokens, occurred_at=now())

    def refund(self, tokens: int | None = None, **asked: Any) -> Refund:
        """Asked for, not sent yet."""
        facts: dict[str, Any] = {"reason": "", "asked_by": None, "idempotency_key": uuid.uuid4()}
        return refunds.ask(
            top_up_id=self.top_up_id,
            microtokens=None if tokens is None else tokens * TOKEN,
            at=now(),
            **facts | asked,
        )

    def dispute(self, **facts: Any) -> str:
        """The cardholder goes to the bank; the dispute's id."""
        self.stripe.tell("disputes", payment_intent=self.intent_id, **facts)
        return str(self.stripe.api().v1.disputes.list({"limit": 1}).data[0].id)

    def decide(self, dispute_id: str, outcome: str) -> None:
        self.stripe.tell("disputes/close", dispute=dispute_id, outcome=outcome)


def buy(
    stripe: StripeWorld,
    *,
    price: Money | None = None,
    card: str = "4242424242424242",
    fulfilled: bool = True,
    **pack: Any,
) -> Bought:
    """500 tokens for EUR 10, unless told otherwise."""
    shop = builders.shop()
    price = price or Money(10, "EUR")
    customer = builders.customer(shop, currency=price.currency.code)
    return buy_again(stripe, shop, customer, price=price, card=card, fulfilled=fulfilled, **pack)


def buy_again(
    stripe: StripeWorld,
    shop: Shop,
    customer: Customer,
    *,
    price: Money,
    card: str = "4242424242424242",
    fulfilled: bool = True,
    **pack: Any,
) -> Bought:
    made = builders.pack(shop, price=price, **pack)
    session = checkout.start(
        customer_id=customer.pk, pack_id=made.pk, idempotency_key=uuid.uuid4(), at=now()
    )
    stripe.pay(session.url, card=card)
    if fulfilled:
        top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    return Bought(
        stripe=stripe,
        shop=shop,
        customer=customer,
        top_up_id=session.top_up_id,
        session_id=session.stripe_session_id,
    )


def send() -> None:
    outbox.send_due(at=now())


def hear(stripe: StripeWorld, *types: str, reverse: bool = False, times: int = 1) -> None:
    """Deliver these events (all that there are, if none is named), and act on them."""
    events = stripe.events(*types)
    for event in events[::-1] if reverse else events:
        for _ in range(times):
            assert deliver(event).status_code == 200
    inbox.act_on_due(at=now())
