"""Refunds and disputes as people see them: the admin, the desk, the portal, the command line."""

import json
import uuid
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from djmoney.money import Money

from billing import disputes, refunds
from billing.models import Notice, Refund, StripeCall
from ledger import reversals
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def top_up(ours: Company):
    """500 tokens for EUR 600, all of them left."""
    return builders.paid_top_up(ours.customer, ours.pack, at=datetime.now(UTC))


def page(top_up):
    return f"/admin/billing/topup/{top_up.pk}/refund/"


def typed(**fields):
    return {"key": str(uuid.uuid4()), "tokens": "", "amount": "", "reason": "", **fields}


def disputed(top_up, status="needs_response"):
    now = datetime.now(UTC)
    return disputes.record(
        stripe_dispute_id="du_1",
        top_up=top_up,
        invoice=None,
        amount=Money(600, "EUR"),
        reason="fraudulent",
        status=status,
        opened_at=now,
        at=now,
    )


def failed(top_up):
    now = datetime.now(UTC)
    refund = refunds.ask(
        top_up_id=top_up.pk, reason="", asked_by=None, idempotency_key=uuid.uuid4(), at=now
    )
    refunds.record_failure(
        refund=refund, kind="failed", message="expired_or_canceled_card", at=datetime.now(UTC)
    )
    return refund


def test_a_vendor_refunds_what_is_left_on_the_page_of_the_top_up(ours, signed_in, top_up) -> None:
    client = signed_in(ours.admin)
    shown = text_of(client.get(page(top_up)))
    assert "500 tokens are left, for €600.00." in shown
    sent = typed(tokens="100", reason="bought twice")
    for _ in range(2):
        client.post(page(top_up), sent)
    refund = Refund.objects.get()
    assert (refund.amount, refund.microtokens) == (Money(120, "EUR"), 100 * TOKEN)
    assert (refund.asked_by, refund.reason) == (ours.admin, "bought twice")
    assert StripeCall.objects.filter(operation="refund.create").count() == 1
    told = text_of(client.get(reverse("admin:billing_topup_change", args=[top_up.pk])))
    assert "€120.00" in told
    assert "under way" in told
    assert "frozen" in told


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tokens": "1", "amount": "1"}, "Say tokens or money, not both."),
        ({"tokens": "501"}, "€600.00 of it have not been refunded"),
        ({"amount": "600.01"}, "€600.00 of it have not been refunded"),
        ({"amount": "0.001"}, "is not an amount that can be paid in EUR"),
        ({"tokens": "-1"}, "greater than or equal to 0"),
        ({"tokens": "many"}, "Enter a number."),
        ({"key": "x"}, "Refund"),
    ],
)
def test_what_is_typed_wrongly_is_said_at_its_field_and_nothing_is_refunded(
    ours, signed_in, top_up, fields, says
) -> None:
    answer = signed_in(ours.admin).post(page(top_up), typed(**fields))
    assert answer.status_code == 200
    assert says in text_of(answer)
    assert not Refund.objects.exists()


def test_only_those_who_look_after_money_refund_and_none_of_another_vendor(
    ours, theirs, signed_in, top_up
) -> None:
    finance = builders.employee(ours.shop, role="finance", name="finance")
    for person, status in (
        (finance, 200),
        (ours.pricing, 404),
        (ours.account_manager, 404),
        (theirs.admin, 404),
    ):
        assert signed_in(person).get(page(top_up)).status_code == status, person
    assert signed_in(theirs.admin).post(page(top_up), typed()).status_code == 404
    assert not Refund.objects.exists()


def test_a_disputed_or_unpaid_top_up_offers_no_refund(ours, signed_in, top_up) -> None:
    disputed(top_up)
    answer = signed_in(ours.admin).get(page(top_up), follow=True)
    assert "disputed: the bank has the money" in text_of(answer)


def test_the_desk_tells_of_a_dispute_and_of_a_refund_that_failed(ours, signed_in, top_up) -> None:
    failed(top_up)
    disputed(top_up)
    client = signed_in(ours.account_manager)
    for address in ("/desk/", f"/desk/{ours.customer.reference}/"):
        told = text_of(client.get(address))
        assert "A payment of €600.00 is disputed; its tokens are frozen." in told
        assert "A refund of €600.00 failed" in told
    assert {notice.subject.split(": ")[1] for notice in Notice.objects.all()} == {
        "a refund of €600.00 did not go through",
        "a payment of €600.00 is disputed",
    }


def test_the_desk_of_another_vendor_tells_nothing_of_it(ours, theirs, signed_in, top_up) -> None:
    disputed(top_up)
    assert "disputed" not in text_of(signed_in(theirs.account_manager).get("/desk/"))


@pytest.mark.parametrize(
    ("status", "word"),
    [("needs_response", "Frozen"), ("lost", "Lost to a dispute"), ("won", "Granted")],
)
def test_a_customer_sees_how_its_top_up_stands(ours, signed_in, top_up, status, word) -> None:
    disputed(top_up, status)
    client = signed_in(ours.buyer)
    assert word in text_of(client.get(f"/portal/{ours.customer.reference}/invoices/"))
    assert client.get(f"/portal/top-ups/{top_up.pk}/").status_code == 200


def test_a_customer_sees_what_went_back(ours, signed_in, top_up) -> None:
    now = datetime.now(UTC)
    refund = refunds.ask(
        top_up_id=top_up.pk,
        microtokens=50 * TOKEN,
        reason="a secret of ours",
        asked_by=None,
        idempotency_key=uuid.uuid4(),
        at=now,
    )
    refunds.record_success(refund=refund, at=now)
    told = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/invoices/"))
    assert "Partly refunded" in told
    assert "€60.00" in told
    assert "secret" not in told


def test_the_command_says_what_could_go_back_and_refunds_it_once(top_up) -> None:
    out = StringIO()
    call_command("refund_top_up", str(top_up.pk), "--dry-run", stdout=out)
    assert out.getvalue().splitlines() == [
        "tokens left: 500",
        "amount left: €600.00",
        "amount at most: €600.00",
    ]
    assert not Refund.objects.exists()
    key = str(uuid.uuid4())
    for _ in range(2):
        out = StringIO()
        arguments = ["--amount", "6", "--key", key, "--json"]
        call_command("refund_top_up", str(top_up.pk), *arguments, stdout=out)
        assert json.loads(out.getvalue()) == {"refund": key, "amount": "€6.00", "tokens": "5"}
    lot_id = top_up.fulfilment.lot_id
    assert reversals.reversed_of(lot_id=lot_id).frozen_microtokens == 5 * TOKEN


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tokens", "1", "--amount", "1"], "not both"),
        (["--tokens", "many"], "must be a number"),
        (["--tokens", "-1"], "more than 0"),
        (["--tokens", "0.0000001"], "whole number of microtokens"),
        (["--tokens", "501"], "have not been refunded"),
    ],
)
def test_the_command_refuses_in_words(top_up, arguments, says) -> None:
    with pytest.raises(CommandError, match=says):
        call_command("refund_top_up", str(top_up.pk), *arguments)


def test_the_command_knows_no_top_up_that_is_not_there(db) -> None:
    with pytest.raises(CommandError, match="there is no top-up"):
        call_command("refund_top_up", str(uuid.uuid4()))
