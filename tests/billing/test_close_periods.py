"""Closing periods by hand: counted first, closed once, and what cannot be is told."""

import json
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command

from billing import closing
from billing.models import PeriodClosing
from tests import builders
from tests.billing.test_sweeps import spoil
from tests.builders import DAY, NOVEMBER

pytestmark = pytest.mark.django_db

CLOSING = NOVEMBER + DAY


def scene(customers=2):
    shop = builders.shop()
    version = builders.plan_version(shop, **builders.billed())
    buyers = [builders.customer(shop) for _ in range(customers)]
    for buyer in buyers:
        builders.subscription(buyer, version)
    return buyers


def run(*options):
    out = StringIO()
    with time_machine.travel(CLOSING, tick=False):
        call_command("close_periods", *options, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def test_it_counts_first_and_closes_nothing():
    scene()
    assert run("--dry-run") == "To be closed: 2, the oldest ended on 2026-11-01."
    assert not PeriodClosing.objects.exists()


def test_it_closes_what_is_due_and_again_nothing():
    scene()
    assert json.loads(run("--json")) == {"due": 2, "closed": 2, "left": 0, "dry_run": False}
    assert PeriodClosing.objects.count() == 2
    assert run() == "No period is due: all whose grace is over are closed."


def test_what_cannot_be_closed_is_told_and_the_rest_is_closed():
    wrong, _ = scene()
    subscription = wrong.subscriptions.get()
    spoil(subscription)
    with pytest.raises(CommandError, match="1 could not be closed"):
        run()
    assert PeriodClosing.objects.count() == 1
    assert closing.due(at=CLOSING).get() == subscription.periods.get()


def test_a_number_of_processes_that_makes_no_sense_is_refused():
    for number in ("0", "65"):
        with pytest.raises(CommandError, match="--processes: must be from 1 to 64"):
            run("--processes", number)
