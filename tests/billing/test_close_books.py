"""Closing the books: days stand, late facts are booked, and it costs no reading of runs."""

import json
from datetime import date, timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from djmoney.money import Money

from billing import closing, tasks
from billing.books import chart, proof
from billing.errors import DayNotOver
from billing.models import (
    JournalDay,
    JournalLine,
)
from ledger import worths
from tests import builders
from tests.billing.bookkeeping import EURO, MID, close, issue, pay, scene
from tests.builders import DAY, NOVEMBER, OCTOBER

pytestmark = pytest.mark.django_db


def test_a_day_closed_late_is_booked_as_if_it_had_been_closed_in_time():
    """Day by day off the lots as they stand, or all days at once from the runs: the same lines."""
    prompt, slow = (scene(**builders.billed()) for _ in range(2))
    for number, tokens in ((0, 300), (1, 0), (2, 900), (4, 177)):
        day = OCTOBER + number * DAY
        for customer in (prompt, slow):
            if tokens:
                builders.use(customer, tokens, occurred_at=day + timedelta(hours=9))
        close(prompt, day)
    close(slow, OCTOBER + 4 * DAY, at=OCTOBER + 9 * DAY)

    def journal(customer):
        own = JournalLine.objects.filter(customer=customer).order_by("day__day", "rule", "account")
        return list(own.values_list("day__day", "rule", "account", "micros", "amount"))[:-1]

    close(prompt, OCTOBER + 4 * DAY)
    assert journal(prompt) == journal(slow)
    assert {rule for _, rule, *_ in journal(slow)} >= {"used", "overage", "fee_earned"}


def test_a_closed_day_stands_and_what_comes_late_is_booked_on_the_next_with_its_own_date():
    customer = scene()
    invoice = customer.invoices.get()
    close(customer, OCTOBER + 3 * DAY)
    before = list(JournalLine.objects.order_by("id").values())
    assert close(customer, OCTOBER + 3 * DAY) == []
    pay(issue(invoice, at=OCTOBER + DAY), at=OCTOBER + 2 * DAY)
    [closed] = close(customer, OCTOBER + 4 * DAY)
    assert closed.late_count == 6
    late = JournalLine.objects.filter(rule="paid", account=chart.CASH).get()
    assert (late.day.day, late.happened_on) == (date(2026, 10, 5), date(2026, 10, 3))
    assert list(JournalLine.objects.order_by("id").values())[: len(before)] == before


def test_the_database_refuses_lines_that_do_not_balance_and_lines_of_a_closed_day():
    customer = scene()
    close(customer, OCTOBER)
    line = JournalLine.objects.earliest("id")
    new = JournalDay.objects.create(vendor=customer.vendor, day=date(2026, 10, 2), closed_at=MID)
    for day, micros, refusal in (
        (line.day, (1, -1), "the day is closed"),
        (new, (1, -2), "do not balance"),
    ):
        sides = [
            side(line, day=day, account=account, micros=one)
            for account, one in zip((chart.CASH, chart.TAX), micros, strict=True)
        ]
        with pytest.raises(IntegrityError, match=refusal), transaction.atomic():
            JournalLine.objects.bulk_create(sides)
    with pytest.raises(IntegrityError, match="forbidden"), transaction.atomic():
        JournalLine.objects.update(micros=1)


def side(line, **changed):
    return JournalLine(
        customer=line.customer,
        rule=line.rule,
        subject="lot:1",
        happened_on=line.happened_on,
        amount=Money(0, "EUR"),
        micros_to_date=0,
        unbooked_micros=0,
        **changed,
    )


def test_a_day_that_is_not_over_is_refused():
    customer = scene()
    with pytest.raises(DayNotOver, match=r"2026-10-11 is not over: .* up to 2026-10-10"):
        close(customer, MID, at=MID)
    assert not JournalDay.objects.exists()


def test_a_lot_tells_what_it_earned_as_of_a_day_long_over():
    customer = scene()
    builders.use(customer, 400, occurred_at=MID)
    builders.use(customer, 267, occurred_at=MID + 3 * DAY)
    closing.close_due(at=NOVEMBER + DAY)
    used = worths.UsedByDay.read(account_ids=[customer.account_id], until_at=NOVEMBER)
    for day, expected in ((9, 0), (11, 400), (13, 400), (14, 667)):
        [allotment, *_] = worths.worths(
            account_ids=[customer.account_id],
            until_at=OCTOBER + day * DAY,
            used=used.through((OCTOBER + (day - 1) * DAY).date()),
        )
        assert (allotment.used_micros, allotment.expired_micros) == (expected * EURO, 0)


def test_deferred_revenue_is_what_is_left_at_every_moment_and_a_fault_is_found():
    customer = scene()
    builders.use(customer, 333, occurred_at=MID)
    assert proof.not_deferred() == []
    close(customer, MID)
    assert proof.not_deferred() == []
    builders.use(customer, 3, occurred_at=MID + DAY)
    assert proof.not_deferred() == []
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(
                "UPDATE billing_journalline SET micros = micros + 1 WHERE account = %s",
                [chart.DEFERRED_TOKENS],
            )
        assert proof.not_deferred() == [(customer.pk, 2)]
        transaction.set_rollback(True)


def told(*arguments):
    out = StringIO()
    call_command("close_books", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_closes_what_is_over_and_says_what_it_did():
    customer = scene()
    with time_machine.travel(MID, tick=False):
        assert told("--dry-run") == (
            "To be closed: 10 days (2026-10-01 to 2026-10-10), 24 lines.\n"
        )
        assert not JournalDay.objects.exists()
        assert told("--until", "2026-10-01") == "Closed: 1 day (2026-10-01), 6 lines.\n"
        issue(customer.invoices.get(), at=OCTOBER)
        said = json.loads(told("--json", "--vendor", customer.vendor.code))
        assert said == {
            "days": 9,
            "from": "2026-10-02",
            "to": "2026-10-10",
            "lines": 22,
            "late_lines": 4,
            "dry_run": False,
        }
        assert told() == "Nothing to close: the books of every day up to then are closed.\n"
        for arguments, refusal in (
            (["--until", "2026-10-11"], r"--until: 2026-10-11 is not over: .* 2026-10-10"),
            (["--until", "October"], "--until October: not a day such as"),
            (["--vendor", "nobody"], "there is no vendor 'nobody'; there are: vendor"),
        ):
            with pytest.raises(CommandError, match=refusal):
                told(*arguments)


def test_two_vendors_books_are_closed_apart_and_the_task_closes_both():
    one, other = scene(), scene()
    with pytest.raises(CommandError, match="say which vendor with --vendor"):
        told()
    close(one, OCTOBER + DAY)
    assert set(JournalLine.objects.values_list("customer", flat=True)) == {one.pk}
    with time_machine.travel(OCTOBER + 3 * DAY, tick=False):
        tasks.close_books()
    assert list(JournalDay.objects.filter(vendor=other.vendor).values_list("day", flat=True)) == [
        date(2026, 10, number) for number in (1, 2, 3)
    ]
