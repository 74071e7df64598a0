"""An invoice's statement: shared out by use, to the cent, and never changed once it is final."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from djmoney.money import Money
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from billing import closing, statements, subscriptions
from billing.models import Invoice
from ledger import accounts, corrections, debiting, folding, queries, usage
from ledger.intake import NewPart
from ledger.value import Tier
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

CLOSING = NOVEMBER + DAY
MID = OCTOBER + 15 * DAY
MINUTE = timedelta(minutes=1)


def scene(*, starts_at=OCTOBER, time_zone="UTC", **changed):
    shop = builders.shop()
    customer = builders.customer(shop, time_zone=time_zone)
    builders.subscription(customer, builders.plan_version(shop, **changed), starts_at=starts_at)
    return customer


def use(customer, *amounts, occurred_at=MID, at=None):
    for cost_centre, tokens in amounts:
        builders.use(customer, tokens, occurred_at=occurred_at, at=at, cost_centre=cost_centre)


def statement(occasion="closing", number=1, at=CLOSING):
    invoice = Invoice.objects.get(occasion=occasion, period__number=number)
    return statements.of_invoice(invoice=invoice, at=at)


def borne(of):
    return {one.cost_centre: one.amount.amount for one in of.cost_centres}


def test_a_hundred_over_three_equal_cost_centres():
    shares = statements.portions_of(Money(100, "EUR"), weights=[1, 1, 1])
    assert [share.amount for share in shares] == [
        Decimal("33.34"),
        Decimal("33.33"),
        Decimal("33.33"),
    ]


@pytest.mark.parametrize(
    ("currency", "amount", "shares"),
    [("JPY", 100, [67, 33]), ("KWD", "1.00", ["0.67", "0.33"]), ("ISK", 10, [7, 3])],
)
def test_shares_are_what_the_currency_can_pay(currency, amount, shares):
    found = statements.portions_of(Money(amount, currency), weights=[2, 1])
    assert found == [Money(share, currency) for share in shares]


def test_each_line_is_shared_out_by_the_use_of_the_closed_period():
    customer = scene(**builders.billed())
    use(customer, ("sales", 1_000), ("legal", 200), ("it", 151))
    closing.close_due(at=CLOSING)
    found = statement()
    assert found.is_final
    assert found.total == Money("1502.02", "EUR")
    assert [(one.cost_centre, one.microtokens // TOKEN) for one in found.cost_centres] == [
        ("it", 151),
        ("legal", 200),
        ("sales", 1_000),
    ]
    assert sum(borne(found).values()) == Decimal("1502.02")
    fee = {p.cost_centre: p.amount.amount for p in found.portions if p.line.kind == "platform_fee"}
    assert fee == {"it": Decimal("55.88"), "legal": Decimal("74.02"), "sales": Decimal("370.10")}


def test_without_use_no_cost_centre_bears_it():
    scene()
    closing.close_due(at=CLOSING)
    assert borne(statement()) == {"": 1_500}


def test_until_the_period_is_closed_the_first_invoice_goes_by_what_is_used_so_far():
    customer = scene()
    assert borne(statement("opening", at=OCTOBER)) == {"": 1_500}
    use(customer, ("sales", 1))
    assert borne(statement("opening", at=MID)) == {"": 1_500}, "the run is of this very instant"
    provisional = statement("opening", at=MID + MINUTE)
    assert borne(provisional) == {"sales": 1_500}
    assert not provisional.is_final
    use(customer, ("legal", 1), occurred_at=MID + DAY)
    closing.close_due(at=CLOSING)
    final = statement("opening")
    assert final.is_final
    assert borne(final) == {"legal": 750, "sales": 750}


def test_a_final_statement_stays_whatever_comes_in_or_is_given_back_later():
    customer = scene(**builders.billed())
    use(customer, ("sales", 1_300), ("legal", 200))
    closing.close_due(at=CLOSING)
    before = statement()
    use(customer, ("legal", 900), at=CLOSING + DAY)
    [run, *_] = queries.runs(account_id=customer.account_id, runs_max=9)
    corrections.void(
        account=accounts.account(account_id=customer.account_id),
        run_id=run.run_id,
        reason="",
        idempotency_key="void",
        at=CLOSING + DAY,
    )
    use(customer, ("it", 50), at=CLOSING + DAY)
    assert statement(at=CLOSING + 2 * DAY) == before
    # Late usage goes by what its own period had used, whoever was late.
    use(customer, ("it", 7), occurred_at=NOVEMBER + DAY, at=CLOSING + DAY)
    closing.close_due(at=datetime(2026, 12, 2, tzinfo=UTC))
    late = [one for one in statement(number=2).portions if one.line.kind == "late_overage"]
    assert {one.cost_centre for one in late} == {"sales", "legal"}
    fees = [one for one in statement(number=2).portions if one.line.kind == "platform_fee"]
    assert {one.cost_centre for one in fees} == {"it"}


def test_use_is_counted_to_the_instant_at_which_a_period_begins_and_ends():
    start = OCTOBER + timedelta(hours=10, minutes=20, seconds=30)
    end = NOVEMBER + timedelta(hours=10, minutes=20, seconds=30)
    customer = scene(starts_at=start)
    moment = timedelta(microseconds=1)
    use(customer, ("early", 1), occurred_at=start - moment)
    use(customer, ("first", 1), occurred_at=start)
    use(customer, ("last", 1), occurred_at=end - moment)
    subscriptions.renew_due(at=end)
    use(customer, ("next", 1), occurred_at=end)
    closing.close_due(at=end + DAY)
    assert borne(statement()) == {"first": 750, "last": 750}


def test_what_is_given_back_of_a_run_in_parts_is_taken_off_the_part_that_used_it():
    customer = builders.customer(builders.shop())
    account = accounts.account(account_id=customer.account_id)
    for number, tokens in ((0, 5), (1, 3)):
        at = MID + 10 * number * MINUTE
        run = builders.new_run(customer, tokens, occurred_at=at, run_id="r", cost_centre="sales")
        part = NewPart(id=str(number), last=number == 1)
        builders.accept(customer, replace(run, part=part), at=MID + DAY)
    debiting.drain_all(account_ids=[account.id], at=MID + DAY)
    corrections.void(
        account=account,
        run_id="r",
        microtokens=TOKEN,
        reason="",
        idempotency_key="void",
        at=MID + DAY,
    )

    def used(from_at, until_at):
        found = usage.by_cost_centre(account_id=account.id, from_at=from_at, until_at=until_at)
        return found.get("sales", 0) // TOKEN

    assert used(MID, MID + 5 * MINUTE) == 4
    assert used(MID + 5 * MINUTE, MID + 15 * MINUTE) == 3


RUNS = st.lists(
    st.tuples(
        st.integers(0, 12),  # ten minutes from the start each
        st.sampled_from(["a", "b", "c"]),
        st.integers(1, 9),
        st.booleans(),  # it is given back in part
    ),
    max_size=12,
)


@settings(max_examples=12)
@given(
    runs=RUNS,
    window=st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
    is_folded=st.booleans(),
    time_zone=st.sampled_from(["UTC", "Asia/Kathmandu"]),
)
def test_use_between_any_two_instants_is_the_sum_of_the_runs(runs, window, is_folded, time_zone):
    customer = builders.customer(builders.shop(), time_zone=time_zone)
    account = accounts.account(account_id=customer.account_id)
    ten = timedelta(minutes=10)
    expected: Counter[str] = Counter()
    for number, (place, cost_centre, tokens, is_voided) in enumerate(runs):
        occurred_at = MID + place * ten
        run = builders.new_run(
            customer, tokens, occurred_at=occurred_at, run_id=f"r{number}", cost_centre=cost_centre
        )
        builders.accept(customer, run, at=MID + DAY)
        debiting.drain_all(account_ids=[account.id], at=MID + DAY)
        if is_voided:
            corrections.void(
                account=account,
                run_id=f"r{number}",
                microtokens=TOKEN,
                reason="",
                idempotency_key=f"void-{number}",
                at=MID + DAY,
            )
        if window[0] <= place < window[1]:
            expected[cost_centre] += (tokens - is_voided) * TOKEN
    if is_folded:
        folding.fold_all()
    found = usage.by_cost_centre(
        account_id=account.id, from_at=MID + window[0] * ten, until_at=MID + window[1] * ten
    )
    assert +Counter(found) == +expected


@settings(max_examples=8)
@given(
    runs=RUNS,
    late=RUNS,
    fee=st.sampled_from([0, 1, 7]),
    commitment=st.sampled_from([0, 9]),
)
def test_the_cost_centres_bear_the_invoice_to_the_cent(runs, late, fee, commitment):
    tiers = (
        Tier(up_to_microtokens=3 * TOKEN, micros_per_token=3_333),
        Tier(up_to_microtokens=None, micros_per_token=125_000),
    )
    customer = scene(
        starts_at=OCTOBER + 17 * MINUTE,
        platform_fee=Decimal(fee),
        allotment_microtokens=5 * TOKEN,
        allotment_price=Decimal(5),
        **builders.billed(overage_tiers=tiers, commitment=Decimal(commitment and fee + 9)),
    )
    for at, some in ((CLOSING, runs), (CLOSING + 40 * DAY, late)):
        new = [
            builders.new_run(
                customer,
                tokens,
                occurred_at=OCTOBER + (17 + place * 10) * MINUTE,
                cost_centre=cost_centre,
            )
            for place, cost_centre, tokens, _ in some
        ]
        if new:
            builders.accept(customer, *new, at=at)
        closing.close_due(at=at + DAY)
    for invoice in Invoice.objects.filter(customer=customer):
        found = statements.of_invoice(invoice=invoice, at=CLOSING)
        total = sum((line.amount for line in invoice.lines.all()), start=Money(0, "EUR"))
        assert sum((one.amount for one in found.cost_centres), start=Money(0, "EUR")) == total
        assert sum((one.amount for one in found.portions), start=Money(0, "EUR")) == total
        for line in invoice.lines.all():
            of_line = [one.amount for one in found.portions if one.line == line]
            assert sum(of_line, start=Money(0, "EUR")) == line.amount
