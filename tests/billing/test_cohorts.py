"""A plan that is offered to a cohort is for its customers alone, while the offer lasts."""

import uuid

import pytest

from billing import changes, cohorts
from billing.changes import Wanted
from billing.errors import InvalidInput, NotForSale
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    return builders.shop()


@pytest.fixture
def pilot(shop):
    """A plan that the cohort Early birds is offered in October."""
    version = builders.plan_version(shop)
    cohort = cohorts.create_cohort(vendor_id=shop.vendor.pk, name="Early birds")
    cohorts.offer(cohort_id=cohort.pk, plan_id=version.plan_id, from_at=OCTOBER, until_at=NOVEMBER)
    return version, cohort


def test_members_are_subscribed_and_others_refused_with_the_cohorts_name(shop, pilot):
    version, cohort = pilot
    member, other = builders.customer(shop), builders.customer(shop)
    cohorts.add_members(cohort_id=cohort.pk, customers=[member])
    builders.subscription(member, version)
    with pytest.raises(NotForSale, match="offered to Early birds only") as refused:
        builders.subscription(other, version)
    assert str(other) in str(refused.value)
    assert not other.subscriptions.exists()


@pytest.mark.parametrize("at", [OCTOBER - DAY, NOVEMBER])
def test_before_and_after_the_offer_members_are_refused_too(shop, pilot, at):
    version, cohort = pilot
    member = builders.customer(shop)
    cohorts.add_members(cohort_id=cohort.pk, customers=[member])
    with pytest.raises(NotForSale, match="not begun, or is over"):
        builders.subscription(member, version, starts_at=at)


def test_nobody_else_changes_to_it_and_whoever_is_on_it_keeps_it(shop, pilot):
    version, cohort = pilot
    member, other = builders.customer(shop), builders.customer(shop)
    cohorts.add_members(cohort_id=cohort.pk, customers=[member])
    builders.subscription(member, version)
    outside = builders.subscription(other, builders.plan_version(shop))
    with pytest.raises(NotForSale):
        changes.change_at_period_end(
            subscription_id=outside.pk,
            wanted=Wanted(plan_version_id=version.pk),
            idempotency_key=uuid.uuid4(),
            at=OCTOBER + DAY,
        )
    cohort.members.all().delete()
    assert member.subscriptions.get().cancelled_at is None


def test_a_plan_without_offers_is_for_everybody(shop):
    builders.subscription(builders.customer(shop), builders.plan_version(shop))


def test_nothing_of_another_vendor_comes_into_a_cohort(shop, pilot):
    _, cohort = pilot
    rival = builders.shop()
    with pytest.raises(InvalidInput, match="another vendor"):
        cohorts.add_members(cohort_id=cohort.pk, customers=[builders.customer(rival)])
    with pytest.raises(InvalidInput, match="another vendor"):
        cohorts.offer(
            cohort_id=cohort.pk, plan_id=builders.plan_version(rival).plan_id, from_at=OCTOBER
        )
    with pytest.raises(InvalidInput, match="after the beginning"):
        cohorts.offer(
            cohort_id=cohort.pk,
            plan_id=builders.plan_version(shop).plan_id,
            from_at=OCTOBER,
            until_at=OCTOBER,
        )
    with pytest.raises(InvalidInput, match="one line"):
        cohorts.create_cohort(vendor_id=shop.vendor.pk, name="Two\nlines")
