"""The vendor changes what a customer is on: shown first, then confirmed as it was shown."""

import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing import changes, moves
from billing.changes import Wanted
from billing.models import Credit, PlanChange, Subscription
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, Visitor, company, text_of


def page(of: Company, name: str) -> str:
    return f"/admin/billing/subscription/{of.subscription.pk}/{name}/"


@pytest.fixture
def larger(ours: Company):
    return builders.plan_version(
        ours.shop, platform_fee=Decimal(900), allotment_microtokens=2_000 * TOKEN
    )


def hidden(response) -> dict[str, str]:
    found = re.findall(r'name="(token|key)" value="([^"]+)"', response.content.decode())
    return dict(found)


def test_a_plan_is_changed_after_its_price_was_shown_and_once(
    ours: Company, larger, signed_in
) -> None:
    client = signed_in(ours.account_manager)
    assert "Nothing happens yet" in text_of(client.get(page(ours, "change-plan")))
    typed = {"plan_version": larger.pk, "when": "now", "size": "", "seats": ""}
    shown = client.post(page(ours, "change-plan"), typed)
    assert "before tax are invoiced now" in text_of(shown)
    assert "Before tax €1,900.00" in text_of(shown)
    assert not PlanChange.objects.exists()
    sure = hidden(shown)
    for _ in range(2):
        done = client.post(page(ours, "change-plan"), sure, follow=True)
        assert "from now on" in text_of(done)
    assert PlanChange.objects.count() == 1
    portal = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/plan/"))
    assert "Each month starts with 2,000 tokens" in portal


def test_what_was_shown_before_something_moved_is_refused(ours: Company, larger, signed_in) -> None:
    client = signed_in(ours.admin)
    typed = {"plan_version": larger.pk, "when": "now", "size": "", "seats": ""}
    sure = hidden(client.post(page(ours, "change-plan"), typed))
    changes.change_at_period_end(
        subscription_id=ours.subscription.pk,
        wanted=Wanted(plan_version_id=builders.plan_version(ours.shop).pk),
        idempotency_key=uuid.uuid4(),
        at=datetime.now(UTC),
    )
    refused = client.post(page(ours, "change-plan"), sure)
    assert refused.status_code == 409
    assert "does not hold any more" in refused.content.decode()
    assert not PlanChange.objects.exists()
    assert client.post(page(ours, "change-plan"), {"token": "x", "key": "y"}).status_code == 409


def test_a_change_that_waits_is_shown_and_withdrawn(ours: Company, larger, signed_in) -> None:
    client = signed_in(ours.admin)
    typed = {"plan_version": larger.pk, "when": "end", "size": "", "seats": ""}
    sure = hidden(client.post(page(ours, "change-plan"), typed))
    client.post(page(ours, "change-plan"), sure)
    portal = f"/portal/{ours.customer.reference}/plan/"
    assert f"on you are on {larger.plan.name}" in text_of(signed_in(ours.buyer).get(portal))
    assert "Withdraw it" in text_of(client.get(page(ours, "withdraw")))
    assert "goes on" in text_of(client.post(page(ours, "withdraw"), follow=True))
    assert "on you are on" not in text_of(signed_in(ours.buyer).get(portal))
    again = client.post(page(ours, "withdraw"), follow=True)
    assert "no change waits" in text_of(again)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"plan_version": "0"}, "Select a valid choice"),
        ({"seats": "3"}, "have no price in this plan"),
        ({"when": "someday"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(ours: Company, larger, signed_in, typed, said) -> None:
    all_typed = {"plan_version": larger.pk, "when": "now", "size": "", "seats": "", **typed}
    shown = text_of(signed_in(ours.admin).post(page(ours, "change-plan"), all_typed))
    assert said in shown
    assert not PlanChange.objects.exists()


def test_cancelling_at_once_says_what_comes_back(ours: Company, signed_in) -> None:
    client = signed_in(ours.account_manager)
    assert "become a credit" in text_of(client.get(page(ours, "cancel")))
    done = client.post(page(ours, "cancel"), {"when": "now"}, follow=True)
    assert "the subscription ends on" in text_of(done)
    assert Credit.objects.filter(reason="cancellation").exists()
    portal = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/plan/"))
    assert "There is no plan running." in portal


def test_all_customers_of_a_version_are_moved_after_a_look(
    ours: Company, larger, signed_in
) -> None:
    client = signed_in(ours.pricing)
    address = f"/admin/billing/planversion/{ours.version.pk}/move/"
    assert "1 subscription would be moved" in text_of(client.get(address))
    typed = {"to_version": larger.pk, "when": "end"}
    shown = text_of(client.post(address, typed))
    assert "Ours-Customer €1,500.00 €1,900.00 nothing" in shown
    assert moves.to_move(from_version=ours.version) == 1
    done = client.post(address, typed | {"sure": "yes"}, follow=True)
    assert "1 moved, 0 left alone." in text_of(done)
    assert moves.to_move(from_version=larger) == 1


def test_another_vendor_changes_and_moves_nothing(
    ours: Company, theirs: Company, larger, signed_in
) -> None:
    stranger = signed_in(theirs.admin)
    move = f"/admin/billing/planversion/{ours.version.pk}/move/"
    for address in (*(page(ours, one) for one in ("change-plan", "withdraw", "cancel")), move):
        assert stranger.get(address).status_code == 404
        assert stranger.post(address, {"when": "now"}).status_code == 404
    typed = {"plan_version": larger.pk, "when": "now", "size": "", "seats": ""}
    shown = text_of(stranger.post(page(theirs, "change-plan"), typed))
    assert "Select a valid choice" in shown
    # A quote of ours, confirmed at an address of theirs, changes nothing either.
    sure = hidden(signed_in(ours.admin).post(page(ours, "change-plan"), typed))
    assert stranger.post(page(theirs, "change-plan"), sure).status_code == 409
    assert not PlanChange.objects.exists()
    assert Subscription.objects.filter(cancelled_at=None).count() == 2


def test_the_pages_read_well_at_both_widths(
    visitor: Visitor, live_server, transactional_db
) -> None:
    ours = company("ours")
    larger = builders.plan_version(
        ours.shop, platform_fee=Decimal(900), allotment_microtokens=2_000 * TOKEN
    )
    visitor.sign_in(ours.admin)
    visitor.go(f"/admin/billing/subscription/{ours.subscription.pk}/change/")
    visitor.look("admin-subscription")
    visitor.go(page(ours, "change-plan"))
    visitor.look("admin-change-plan")
    visitor.page.get_by_label("Plan version").select_option(value=str(larger.pk))
    visitor.page.get_by_label("When").select_option(value="now")
    visitor.page.get_by_role("button", name="Show what it costs").click()
    visitor.look("admin-change-quote")
    visitor.page.get_by_role("button", name="Change it").click()
    visitor.go(page(ours, "cancel"))
    visitor.look("admin-cancel")
    visitor.go(f"/admin/billing/planversion/{larger.pk}/move/")
    visitor.page.get_by_label("To").select_option(value=str(ours.version.pk))
    visitor.page.get_by_role("button", name="Show what it does").click()
    visitor.look("admin-move")
    visitor.go("/admin/billing/cohort/add/")
    visitor.look("admin-cohort")
    visitor.page.context.clear_cookies()
    visitor.sign_in(ours.buyer)
    visitor.go(f"/portal/{ours.customer.reference}/plan/")
    visitor.look("portal-plan-changed")
