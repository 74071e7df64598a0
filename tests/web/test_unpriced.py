"""Whoever sets prices, or looks after an account, sees which runs wait for a price."""

import html
from datetime import UTC, datetime

from django.urls import reverse

from config import doctor
from tests import builders
from tests.web.conftest import Company, text_of
from tests.web.facts import waits_for_a_price


def test_runs_that_wait_for_a_price_are_on_the_first_page_with_their_card_and_at_the_doctor(
    ours: Company, theirs: Company, signed_in
) -> None:
    assert [one.verdict for one in doctor.unpriced_runs()] == ["ok"]
    waits_for_a_price(ours, "r-1", "r-2")
    card = reverse("admin:ledger_ratecard_change", args=[ours.shop.rate_card_id])
    for user in (ours.pricing, ours.admin):
        client = signed_in(user)
        home = client.get("/admin/")
        assert "2 runs since" in text_of(home)
        assert card in home.content.decode()
        assert "Runs wait for a price of this card" in text_of(client.get(card))
        account = reverse("admin:ledger_account_change", args=[ours.customer.account_id])
        assert "2 runs wait for a price" in text_of(client.get(account))
    other = signed_in(theirs.admin)
    assert "wait for a price" not in text_of(other.get("/admin/"))
    theirs_card = reverse("admin:ledger_ratecard_change", args=[theirs.shop.rate_card_id])
    assert "wait for a price" not in text_of(other.get(theirs_card))
    [finding] = doctor.unpriced_runs()
    assert finding.verdict == "warn"
    for words in ("2 wait for a price", "'pages'", "Publish a version"):
        assert words in finding.text


def test_runs_that_wait_for_a_price_come_before_debts(ours: Company, signed_in) -> None:
    now = datetime.now(UTC)
    owing = builders.customer(ours.shop, code="owing")
    builders.use(owing, 1, occurred_at=now, at=now)
    waits_for_a_price(ours, "r-1", "r-2")
    client = signed_in(ours.account_manager)
    cases = client.get("/desk/").context["cases"]
    assert [case.customer.code for case in cases] == ["ours-customer", "owing"]
    assert cases[0].level == "alarm"
    for path in ("/desk/", f"/desk/{ours.customer.reference}/"):
        shown = html.unescape(text_of(client.get(path)))
        assert "2 runs wait for a price since" in shown
        assert "no rate for meter 'pages' and engine 'engine' in workflow 'review'" in shown
        assert "Publish a version of rate card" in shown
    assert "wait for a price" not in text_of(client.get(f"/desk/{owing.reference}/"))


def test_the_customer_reads_which_runs_are_not_charged_yet(
    ours: Company, theirs: Company, signed_in
) -> None:
    waits_for_a_price(ours, "r-1", "r-2")
    for page in ("", "runs/"):
        shown = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/{page}"))
        assert "2 runs are not charged yet" in shown
        shown = text_of(signed_in(theirs.buyer).get(f"/portal/{theirs.customer.reference}/{page}"))
        assert "not charged yet" not in shown
