"""All subscriptions of a version moved to another: shown first, each once, others left alone."""

import json
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from djmoney.money import Money

from billing import closing, cohorts, moves, subscriptions
from billing.models import Invoice, PlanChange, Subscription
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER

pytestmark = pytest.mark.django_db

MID = OCTOBER + 10 * DAY


class Scene:
    """Two customers on a plan's first version, one that is cancelled, and one on another plan."""

    def __init__(self):
        self.shop = builders.shop(code="acme")
        self.old = builders.plan_version(self.shop)
        self.new = builders.plan_version(self.shop, platform_fee=Decimal(600))
        self.own = [builders.customer(self.shop, code=code) for code in ("ada", "bob", "cy")]
        for customer in self.own:
            builders.subscription(customer, self.old)
        cancelled = self.own.pop().subscriptions.get()
        subscriptions.cancel(subscription_id=cancelled.pk, at=MID)
        other = builders.customer(self.shop, code="eve")
        builders.subscription(other, builders.plan_version(self.shop))

    def preview(self, *, now=False, at=MID):
        asked = {"from_version": self.old, "to_version": self.new}
        return list(moves.preview(**asked, now=now, at=at))

    def move(self, *, now=False, at=MID):
        asked = {"from_version": self.old, "to_version": self.new}
        return list(moves.move(**asked, now=now, at=at))


def test_the_preview_says_what_the_next_invoices_will_say_and_writes_nothing():
    scene = Scene()
    found = scene.preview()
    assert [one.subscription.customer.code for one in found] == ["ada", "bob"]
    assert {(one.before, one.after) for one in found} == {
        (Money(1_500, "EUR"), Money(1_600, "EUR"))
    }
    assert Subscription.objects.count() == 4
    closing_ = scene.move()
    assert [one.after for one in closing_] == [one.after for one in found]
    closing.close_due(at=NOVEMBER + DAY)
    totals = [
        sum(line.amount.amount for line in invoice.lines.all())
        for invoice in Invoice.objects.filter(occasion="closing", customer__in=scene.own)
    ]
    assert totals == [1_600, 1_600]


def test_each_is_moved_once_however_often_it_is_asked_for():
    scene = Scene()
    assert len(scene.move()) == 2
    assert scene.move() == []
    assert Subscription.objects.filter(plan_version=scene.new).count() == 2


def test_now_is_charged_for_what_is_left():
    scene = Scene()
    scene.move(now=True, at=OCTOBER)
    assert set(PlanChange.objects.values_list("fee_micros", flat=True)) == {100_000_000}


def test_who_cannot_be_moved_is_left_alone_with_the_reason():
    scene = Scene()
    pilot = cohorts.create_cohort(vendor_id=scene.shop.vendor.pk, name="Early birds")
    cohorts.add_members(cohort_id=pilot.pk, customers=[scene.own[0]])
    cohorts.offer(cohort_id=pilot.pk, plan_id=scene.new.plan_id, from_at=OCTOBER)
    ada, bob = scene.move()
    assert not ada.skipped
    assert "offered to Early birds only, and Bob is not among them" in bob.skipped
    assert scene.own[1].subscriptions.get().plan_version == scene.old


def run(*words):
    out = StringIO()
    call_command("move_subscriptions", *words, stdout=out)
    return out.getvalue()


def test_the_command_shows_then_moves_and_speaks_json(monkeypatch):
    scene = Scene()
    of = {one: f"acme/{one.plan.code}/{one.number}" for one in (scene.old, scene.new)}
    monkeypatch.setattr("django.utils.timezone.now", lambda: MID)
    words = (of[scene.old], of[scene.new])
    shown = run(*words, "--dry-run")
    assert "ada: next invoice €1,500.00 -> €1,600.00" in shown
    assert "2 would be moved, 0 left alone." in shown
    told = json.loads(run(*words, "--json"))
    assert [one["next_invoice_after_micros"] for one in told["moves"]] == [1_600_000_000] * 2
    assert "0 moved, 0 left alone." in run(*words)


@pytest.mark.parametrize("words", [("acme/x/1", "acme/x/2"), ("1", "2"), ("a/b/c", "a/b/1")])
def test_a_version_that_is_none_is_said_so(words):
    with pytest.raises(CommandError, match="version"):
        run(*words)


def test_versions_of_two_vendors_are_refused():
    ours, theirs = (builders.plan_version(builders.shop(code=code)) for code in ("one", "two"))
    with pytest.raises(CommandError, match="different vendors"):
        run(f"one/{ours.plan.code}/1", f"two/{theirs.plan.code}/1")
