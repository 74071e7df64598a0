"""Whatever happens to a customer, in whatever order and however often: nothing is lost or made.

A history is a list of steps, each some days after the one before. A step is done again with the key
it had (a retry), and what Stripe tells comes late, twice or in another order. At its end the
subscription is cancelled and everything is closed and issued; then

    what invoices ask for   =  what their statements share out
    the journal             balances, each day and in each currency
    deferred revenue        =  what is left in the lots
    what lots were paid     =  used + expired + taken back + left
    no lot                  is granted twice

and every other rule of the ledger and of billing holds (tests.conftest.broken_rules).
"""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from djmoney.money import Money
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import (
    cancelling,
    changes,
    closing,
    disputes,
    refunds,
    statements,
    subscriptions,
    top_ups,
)
from billing.books import chart, days
from billing.errors import AlreadySubscribed, NotChangeable, NotRefundable, PaymentDisputed
from billing.models import Customer, Invoice, PlanVersion, Refund, TopUp, TopUpPack
from ledger import accounts, corrections, debiting, worths
from ledger.errors import MoreThanIsLeft
from tests import builders
from tests.billing.bookkeeping import booked, exact, issue, pay
from tests.builders import DAY, OCTOBER, TOKEN
from tests.conftest import broken_rules

pytestmark = pytest.mark.django_db

# A history takes half a second or two. More of them: HYPOTHESIS_PROFILE=nightly.
IS_DEFAULT = os.environ.get("HYPOTHESIS_PROFILE", "default") == "default"
EXAMPLES = 6 if IS_DEFAULT else settings.default.max_examples  # type: ignore[union-attr]
HOUR = timedelta(hours=1)


@dataclass(kw_only=True)
class History:
    """A customer's life, step by step; `at` is the time of the step."""

    customer: Customer
    versions: list[PlanVersion]
    pack: TopUpPack
    at: datetime = OCTOBER
    run_ids: list[str] = field(default_factory=list)
    bought: list[TopUp] = field(default_factory=list)
    last: Callable[[], Any] = lambda: None

    @staticmethod
    def begin() -> "History":
        shop = builders.shop()
        customer = builders.customer(shop, time_zone="Europe/Paris")
        return History(
            customer=customer,
            versions=[
                builders.plan_version(shop, **builders.billed(platform_fee=Decimal("99.99"))),
                builders.plan_version(
                    shop,
                    **builders.billed(
                        allotment_microtokens=333 * TOKEN,
                        allotment_price=Decimal("0.07"),
                        commitment=Decimal(520),
                    ),
                ),
                builders.plan_version(shop, platform_fee=Decimal(0), allotment_price=Decimal(0)),
            ],
            pack=builders.pack(shop, tokens=70, price=Money(11, "EUR")),
        )

    def do(self, action: Callable[[], Any]) -> None:
        """What cannot be done now is refused, and changes nothing."""
        self.last = action
        try:
            with transaction.atomic():
                action()
        except (AlreadySubscribed, NotChangeable, NotRefundable, PaymentDisputed, MoreThanIsLeft):
            pass

    def again(self, number: int) -> None:
        self.do(self.last)

    def subscribe(self, number: int) -> None:
        version, key, at = self.versions[number % 3], uuid.uuid4(), self.at
        self.do(
            lambda: subscriptions.subscribe(
                customer_id=self.customer.pk,
                plan_version_id=version.pk,
                starts_at=at,
                idempotency_key=key,
                at=at,
            )
        )

    def use(self, number: int) -> None:
        self._use(number * 40 + 1, self.at)

    def use_late(self, number: int) -> None:
        self._use(number * 25 + 1, max(OCTOBER, self.at - number * 6 * DAY))

    def _use(self, tokens: int, occurred_at: datetime) -> None:
        run_id = f"run-{builders.number()}"
        run = builders.new_run(self.customer, tokens, occurred_at=occurred_at, run_id=run_id)
        self.run_ids.append(run_id)
        at = self.at

        def debit() -> None:
            builders.accept(self.customer, run, at=at)
            debiting.drain_all(account_ids=[self.customer.account_id], at=at)

        self.do(debit)

    def void(self, number: int) -> None:
        if not self.run_ids:
            return
        run_id, key, at = self.run_ids[number % len(self.run_ids)], str(uuid.uuid4()), self.at
        account = accounts.find(book_id=self.customer.vendor.book_id, code=self.customer.code)
        tokens = (number + 1) * TOKEN if number % 2 else None
        self.do(
            lambda: corrections.void(
                account=account,
                run_id=run_id,
                microtokens=tokens,
                reason="it was ours",
                idempotency_key=key,
                at=at,
            )
        )

    def top_up(self, number: int) -> None:
        key, at, intent = uuid.uuid4(), self.at, f"pi_{builders.number()}"
        tax = Money(Decimal(number), "EUR")

        def buy() -> None:
            top_up = top_ups.begin(
                customer_id=self.customer.pk, pack_id=self.pack.pk, idempotency_key=key, at=at
            )
            top_ups.grant_paid(
                top_up=top_up,
                stripe_payment_intent_id=intent,
                amount=top_up.price + tax,
                paid_at=at - number * HOUR,
                at=at,
            )
            if top_up not in self.bought:
                self.bought.append(top_up)

        self.do(buy)

    def refund(self, number: int) -> None:
        if not self.bought:
            return
        top_up, key, at = self.bought[number % len(self.bought)], uuid.uuid4(), self.at

        def ask() -> None:
            refund = refunds.ask(
                top_up_id=top_up.pk,
                microtokens=(number + 1) * 5 * TOKEN,
                force=number > 6,
                reason="asked",
                asked_by=None,
                idempotency_key=key,
                at=at,
            )
            refunds.record_success(refund=refund, at=at)

        self.do(ask)

    def refund_fails(self, number: int) -> None:
        made = list(Refund.objects.filter(top_up__customer=self.customer).order_by("asked_at"))
        if made:
            refund, at = made[number % len(made)], self.at
            self.do(lambda: refunds.record_failure(refund=refund, kind="failed", message="", at=at))

    def dispute(self, number: int) -> None:
        """As news comes: in any order, for one dispute of each top-up."""
        if not self.bought:
            return
        top_up, at = self.bought[number % len(self.bought)], self.at
        status = ("needs_response", "won", "lost", "under_review", "warning_closed")[number % 5]
        self.do(
            lambda: disputes.record(
                stripe_dispute_id=f"dp_{top_up.pk}",
                top_up=top_up,
                invoice=None,
                amount=top_up.price,
                reason="fraudulent",
                status=status,
                opened_at=at,
                at=at,
            )
        )

    def change(self, number: int) -> None:
        subscription = self.customer.subscriptions.order_by("subscribed_at").last()
        if subscription is None:
            return
        version, key, at = self.versions[number % 3], uuid.uuid4(), self.at
        do = changes.change_now if number > 4 else changes.change_at_period_end
        self.do(
            lambda: do(
                subscription_id=subscription.pk,
                wanted=changes.Wanted(plan_version_id=version.pk),
                idempotency_key=key,
                at=at,
            )
        )

    def cancel(self, number: int) -> None:
        subscription = self.customer.subscriptions.order_by("subscribed_at").last()
        if subscription is None:
            return
        do, at = (cancelling.cancel_now if number > 4 else subscriptions.cancel), self.at
        self.do(lambda: do(subscription_id=subscription.pk, at=at))

    def close(self, number: int) -> None:
        at = self.at

        def close_all() -> None:
            subscriptions.renew_due(at=at)
            while closing.close_due(at=at):
                pass
            closing.bill_late(at=at)

        self.do(close_all)

    def hear(self, number: int) -> None:
        """Stripe tells that it issued invoices, some of them as paid; twice."""
        for invoice in self._unheard()[: number + 1]:
            at = self.at
            issued = issue(invoice, at=invoice.built_at + number * HOUR, tax=Decimal("0.99"))
            if number % 2:
                pay(issued, at=at)
                pay(issued, at=at)

    def books(self, number: int) -> None:
        at = self.at
        self.do(lambda: days.close_due(at=at))

    def _unheard(self) -> list[Invoice]:
        own = Invoice.objects.filter(customer=self.customer, carried=None, finalization=None)
        return list(own.order_by("built_at"))

    def end(self) -> None:
        self.cancel(0)
        for days_later in (33, 2, 2):
            self.at += days_later * DAY
            self.close(0)
        for invoice in self._unheard():
            issue(invoice, at=self.at)
        self.at += DAY
        self.books(0)


STEPS = (
    *("subscribe", "use", "use", "use", "use_late", "void", "top_up", "refund", "refund_fails"),
    *("dispute", "change", "cancel", "close", "close", "hear", "books", "again", "again"),
)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 5)),
        min_size=8,
        max_size=20,
    )
)
@settings(max_examples=EXAMPLES)
def test_any_history_adds_up(steps):
    with transaction.atomic():
        history = History.begin()
        history.subscribe(steps[0][1])
        for name, number, days_later in steps:
            history.at += days_later * DAY + HOUR
            getattr(history, name)(number)
        history.end()
        assert broken_rules() == set()
        _adds_up(history)
        transaction.set_rollback(True)


def _adds_up(history: History) -> None:
    customer = history.customer
    for invoice in customer.invoices.all():
        statement = statements.of_invoice(invoice=invoice, at=history.at)
        nothing = Money(0, invoice.currency)
        lines = sum((line.amount for line in invoice.lines.all()), start=nothing)
        assert lines == sum((one.amount for one in statement.portions), start=nothing)
    lots = [lot for lot in worths.worths(account_ids=[customer.account_id]) if lot.price_micros]
    for lot in lots:
        gone = lot.used_micros + lot.expired_micros + lot.rolled_micros + lot.revoked_micros
        assert lot.price_micros - gone >= 0
    paid = sum(lot.price_micros for lot in lots if lot.rolled_from_lot_id is None)
    arrived = sum(lot.price_micros for lot in lots if lot.rolled_from_lot_id is not None)
    assert arrived == sum(lot.rolled_micros for lot in lots)
    balances = exact(customer)
    of_tokens = [
        sum(getattr(lot, f"{name}_micros") for lot in lots)
        for name in ("used", "expired", "revoked")
    ]
    deferred = -balances.get(chart.DEFERRED_TOKENS, 0)
    assert sum(of_tokens) + deferred == paid
    assert -balances.get(chart.REVENUE_TOKENS, 0) == of_tokens[0]
    assert -balances.get(chart.BREAKAGE, 0) == of_tokens[1]
    assert sum(booked(customer).values()) == 0
    # Everything was invoiced, and nothing twice.
    for account in (chart.UNBILLED_TOKENS, chart.UNBILLED_FEES, chart.UNBILLED_OVERAGE):
        assert balances.get(account, 0) == 0, account
    assert balances.get(chart.DEFERRED_FEES, 0) == 0
