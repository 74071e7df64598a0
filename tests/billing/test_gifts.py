"""Tokens that a plan gives away: each kind once for a customer and plan."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from billing import catalog, explain, gifts, subscriptions, terms
from billing.errors import InvalidInput
from billing.models import Gift, InvoiceLine, PlanVersion
from ledger import catalog as ledger_catalog
from ledger import queries
from tests import builders
from tests.builders import DAY, DECEMBER, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

WELCOMING: dict[str, Any] = {"welcome_microtokens": 500 * TOKEN, "welcome_months": 2}
GENEROUS: dict[str, Any] = WELCOMING | {"trial_days": 14, "trial_microtokens": 100 * TOKEN}


def free_lots(customer) -> list[tuple[str, int]]:
    lots = queries.lots(account_ids=[customer.account_id])
    return [
        (lot.source, lot.granted_microtokens // TOKEN)
        for lot in lots
        if lot.source in Gift.Kind.values
    ]


def test_a_new_customer_is_welcomed_once_with_a_free_lot_of_its_own() -> None:
    shop = builders.shop()
    customer = builders.customer(shop)
    version = builders.plan_version(shop, **WELCOMING)
    subscription = builders.subscription(customer, version)
    assert free_lots(customer) == [("welcome", 500)]
    gift = Gift.objects.get(customer=customer)
    [lot] = [
        lot for lot in queries.lots(account_ids=[customer.account_id]) if lot.id == gift.lot_id
    ]
    assert (lot.price_micros, lot.effective_at, lot.expires_at) == (0, OCTOBER, DECEMBER)
    assert not InvoiceLine.objects.filter(description__contains="500").exists()

    # Nobody is welcomed again: not in the next term, not after coming back, not by a new version.
    subscriptions.renew(subscription_id=subscription.pk, at=NOVEMBER)
    subscriptions.cancel(subscription_id=subscription.pk, at=NOVEMBER + DAY)
    draft = catalog.draft(
        plan_id=version.plan_id, terms=builders.terms(shop, **WELCOMING | {"welcome_months": 3})
    )
    newer = builders.publish(draft)
    builders.subscription(customer, newer, starts_at=DECEMBER)
    assert free_lots(customer) == [("welcome", 500)]


def test_another_plan_gives_its_own_gift_and_another_customer_is_welcomed_too() -> None:
    shop = builders.shop()
    first, second = builders.customer(shop), builders.customer(shop)
    version, other = (builders.plan_version(shop, **WELCOMING) for _ in range(2))
    builders.subscription(second, version)
    ended = builders.subscription(first, version)
    subscriptions.cancel(subscription_id=ended.pk, at=OCTOBER)
    builders.subscription(first, other, starts_at=NOVEMBER)
    assert free_lots(second) == [("welcome", 500)]
    assert free_lots(first) == [("welcome", 500), ("welcome", 500)]


def test_the_tokens_of_a_trial_are_given_once_and_expire_with_it() -> None:
    shop = builders.shop()
    customer = builders.customer(shop)
    subscription = builders.subscription(customer, builders.plan_version(shop, **GENEROUS))
    ends_at = OCTOBER + 14 * DAY
    for at in (OCTOBER, NOVEMBER):
        gifts.give_trial(subscription=subscription, starts_at=OCTOBER, ends_at=ends_at, at=at)
    gift = Gift.objects.get(kind="trial")
    assert gift.given_at == OCTOBER
    assert ("trial", 100) in free_lots(customer)
    assert gifts.was_given(customer=customer, plan_id=gift.plan_id, kind="trial")
    with pytest.raises(IntegrityError, match="gift_once"), transaction.atomic():
        Gift.objects.create(
            customer=customer,
            plan_id=gift.plan_id,
            kind="trial",
            subscription=subscription,
            lot_id=1,
            given_at=at,
        )


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"trial_days": 91}, "trial_days"),
        ({"trial_days": 0}, "trial_microtokens"),
        ({"trial_microtokens": -1}, "trial_microtokens"),
        ({"welcome_microtokens": 10**15 + 1}, "welcome_microtokens"),
        ({"welcome_months": 0}, "welcome_months"),
    ],
)
def test_a_gift_that_makes_no_sense_is_refused_at_its_field(changed, field) -> None:
    with pytest.raises(InvalidInput) as refusal:
        builders.plan_version(builders.shop(), **GENEROUS | changed)
    assert [fault.field for fault in refusal.value.faults] == [field]
    assert not PlanVersion.objects.exists()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {},
            "You first try it for 14 days with 100 tokens for free, which expire with the trial;"
            " another 500 tokens valid for 2 months are a gift.",
        ),
        (
            {"trial_microtokens": 0, "welcome_microtokens": 0},
            "You first try it for 14 days for free.",
        ),
        (
            {"trial_days": 0, "trial_microtokens": 0, "welcome_months": 1},
            "500 tokens valid for 1 month are a gift, once.",
        ),
    ],
)
def test_a_plan_tells_of_what_it_gives(changed, sentence) -> None:
    version = builders.plan_version(builders.shop(), **GENEROUS | changed)
    billed_by = terms.of_version(version=version, currency="EUR")
    unit = ledger_catalog.unit(unit_id=version.unit_id)
    assert sentence in explain.explain(terms=billed_by, unit=unit).sentences
