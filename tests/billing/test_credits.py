"""Credits make lines smaller until they are used up; no line is ever negative."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from djmoney.money import Money
from hypothesis import given
from hypothesis import strategies as st

from billing import closing, crediting, previews
from billing.errors import KeyReused
from billing.models import Credit, CreditUse, Invoice
from tests import builders
from tests.billing.stripe_world import send_all
from tests.builders import DAY, NOVEMBER, OCTOBER

pytestmark = pytest.mark.django_db

CLOSING = NOVEMBER + DAY
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def give(customer, amount, *, key="", currency="EUR", at=OCTOBER):
    return crediting.record(
        customer=customer,
        amount=Money(amount, currency),
        reason=Credit.Reason.GOODWILL,
        description="Sorry",
        idempotency_key=key or str(uuid.uuid4()),
        at=at,
    )


def scene(**changed):
    shop = builders.shop()
    customer = builders.customer(shop)
    builders.subscription(customer, builders.plan_version(shop, **changed))
    return customer


def lines(number, occasion="closing"):
    invoice = Invoice.objects.get(period__number=number, occasion=occasion)
    return [(line.kind, line.amount.amount) for line in invoice.lines.all()]


def test_a_credit_makes_lines_smaller_and_the_rest_waits_for_the_next_invoice():
    customer = scene()
    give(customer, 1_700)
    give(customer, 200)
    closing.close_due(at=CLOSING)
    assert lines(1) == [("platform_fee", 0), ("allotment", 0)]
    fee, allotment = Invoice.objects.get(occasion="closing").lines.all()
    assert fee.description.endswith("(€500.00 of it paid by credit)")
    assert fee.micros == 500_000_000
    assert allotment.description.endswith("(€1,000.00 of it paid by credit)")
    assert crediting.left(customer=customer) == Money(400, "EUR")
    closing.close_due(at=DECEMBER + DAY)
    assert lines(2) == [("platform_fee", 100), ("allotment", 1_000)]
    assert crediting.left(customer=customer) == Money(0, "EUR")
    # 1,500 and 200 of the older one, then 200 of the other.
    used = CreditUse.objects.order_by("id").values_list("amount", flat=True)
    assert list(used) == [500, 1_000, 200, 200]


def test_a_credit_is_given_once_under_its_key():
    customer = scene()
    assert give(customer, 5, key="a") == give(customer, 5, key="a")
    with pytest.raises(KeyReused):
        give(customer, 6, key="a")


def test_a_preview_shows_the_credit_and_uses_nothing_up():
    customer = scene()
    give(customer, 30)
    for _ in range(2):
        found = previews.next_invoice(customer=customer, at=OCTOBER)
        assert found is not None
        assert found.total == Money(1_470, "EUR")
    assert crediting.left(customer=customer) == Money(30, "EUR")


def test_what_was_too_small_to_be_charged_is_carried_whole_and_credits_leave_it_alone():
    free = {"platform_fee": Decimal(0), "allotment_microtokens": 0, "allotment_price": Decimal(0)}
    customer = scene(**builders.billed(**free))
    for tokens, month in ((252, OCTOBER), (300, NOVEMBER)):
        builders.use(customer, tokens, occurred_at=month + 10 * DAY)
        closing.close_due(at=month + 32 * DAY)
        give(customer, 5, at=month)
    assert lines(2) == [("carried", Decimal("0.04")), ("overage", 0), ("overage", 0)]


def test_a_commitment_is_met_by_what_is_owed_however_it_is_paid():
    customer = scene(**builders.billed(commitment=Decimal(2_000)))
    give(customer, 100)
    closing.close_due(at=CLOSING)
    assert lines(1)[0] == ("true_up", 400)


def test_another_customers_credit_is_none_of_its():
    customer, other = scene(), scene()
    give(other, 100)
    closing.close_due(at=CLOSING)
    assert crediting.left(customer=other) == Money(0, "EUR")
    invoice = Invoice.objects.get(occasion="closing", customer=customer)
    assert sum(line.amount.amount for line in invoice.lines.all()) == 1_500


def test_an_invoice_that_credits_paid_in_part_or_whole_goes_through_at_stripe(at_stripe):
    shop = builders.shop()
    customer = builders.customer(shop)
    give(customer, 1_600)
    builders.subscription(customer, builders.plan_version(shop))
    closing.close_due(at=CLOSING)
    send_all(datetime.now(UTC))
    totals = {one.total: one.status for one in at_stripe.api().v1.invoices.list({}).data}
    assert totals == {0: "paid", 140_000: "paid"}
    assert Invoice.objects.filter(payment__isnull=False).count() == 2


@given(
    given_=st.lists(st.integers(1, 9), max_size=5),
    due=st.lists(st.integers(0, 9), max_size=5),
)
def test_credits_pay_as_much_as_there_is_and_no_line_falls_below_nothing(given_, due):
    customer = builders.customer(builders.shop())
    for amount in given_:
        give(customer, amount)
    amounts = [Money(amount, "EUR") for amount in due]
    found = crediting.set_against(customer=customer, amounts=amounts)
    paid = [Decimal(0)] * len(due)
    for one in found:
        paid[one.position] += one.amount.amount
    assert sum(paid) == min(sum(given_), sum(due))
    assert all(0 <= part <= whole for part, whole in zip(paid, due, strict=True))
    # Line after line: none is paid in part but the last that is paid at all.
    for part, whole in list(zip(paid, due, strict=True))[: max(_paid_places(paid), default=0)]:
        assert part == whole


def _paid_places(paid):
    return [place for place, part in enumerate(paid) if part]
