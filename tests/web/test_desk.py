"""The desk shows an account manager whom to look after first."""

from datetime import UTC, datetime

from billing import alerts
from billing.models import AlertMessage
from tests import builders
from tests.web.conftest import Company, text_of
from tests.web.facts import alert_and_top_up


def test_the_desk_is_for_account_managers_and_administrators(
    ours: Company, signed_in, client
) -> None:
    for user in (ours.account_manager, ours.admin):
        assert signed_in(user).get("/desk/").status_code == 200
    for user in (ours.pricing, ours.buyer):
        for path in ("/desk/", f"/desk/{ours.customer.reference}/"):
            assert signed_in(user).get(path).status_code == 404
    for path in ("/desk/", f"/desk/{ours.customer.reference}/"):
        assert client.get(path)["Location"] == f"/sign-in/?next={path}"


def test_accounts_of_another_vendor_are_absent(ours: Company, theirs: Company, signed_in) -> None:
    message, _ = alert_and_top_up(theirs)
    client = signed_in(ours.account_manager)
    assert "Theirs" not in text_of(client.get("/desk/"))
    assert client.get(f"/desk/{theirs.customer.reference}/").status_code == 404
    assert client.post(f"/desk/alerts/{message.pk}/acknowledge/").status_code == 404
    message.refresh_from_db()
    assert message.acknowledged_at is None


def test_accounts_stand_in_the_order_of_urgency(ours: Company, signed_in) -> None:
    now = datetime.now(UTC)
    used = {"calm": 100, "busy": 690, "alarming": 1_000, "owing": 1_010}
    for name, tokens in used.items():
        customer = builders.customer(ours.shop, code=name)
        builders.subscription(customer, ours.version, starts_at=ours.subscription.starts_at)
        builders.use(customer, tokens, occurred_at=now, at=now)
    alerts.evaluate(at=now)
    client = signed_in(ours.account_manager)
    owing = AlertMessage.objects.get(period__subscription__customer__code="owing")
    client.post(f"/desk/alerts/{owing.pk}/acknowledge/")
    cases = client.get("/desk/").context["cases"]
    assert [case.customer.code for case in cases] == [
        "alarming", "owing", "busy", "calm", "ours-customer",
    ]  # fmt: skip


def test_a_jump_over_three_thresholds_is_one_message_naming_the_highest(
    ours: Company, signed_in
) -> None:
    now = datetime.now(UTC)
    builders.use(ours.customer, 1_000, occurred_at=now, at=now)
    alerts.evaluate(at=now)
    shown = text_of(signed_in(ours.account_manager).get("/desk/"))
    assert "100 % of the allotment of" in shown
    assert "70 % of" not in shown
    assert "1 alert to acknowledge" in shown


def test_acknowledging_says_who_and_when_and_happens_once(ours: Company, signed_in) -> None:
    message, _ = alert_and_top_up(ours)
    path = f"/desk/alerts/{message.pk}/acknowledge/"
    account = f"/desk/{ours.customer.reference}/"
    client = signed_in(ours.account_manager)
    assert client.get(path).status_code == 405
    assert "is acknowledged" in text_of(client.post(path, {"back": account}, follow=True))
    message.refresh_from_db()
    first_at = message.acknowledged_at
    assert first_at is not None
    assert message.acknowledged_by == ours.account_manager
    signed_in(ours.admin).post(path)
    message.refresh_from_db()
    assert (message.acknowledged_at, message.acknowledged_by) == (first_at, ours.account_manager)
    assert "ours-manager," in text_of(client.get(account))
    assert client.post(path, {"back": "https://evil.example"})["Location"] == "/desk/"


def test_an_account_page_tells_its_history(ours: Company, signed_in) -> None:
    alert_and_top_up(ours)
    shown = text_of(signed_in(ours.account_manager).get(f"/desk/{ours.customer.reference}/"))
    for words in ("50 tokens", "Not paid yet", "500 tokens", "€600.00", "€1,500.00", "review"):
        assert words in shown, words
    assert "ours-buyer" in shown


def test_an_empty_desk_says_where_to_begin(signed_in, db: None) -> None:
    user = builders.employee(builders.shop(), role="account_manager")
    assert "No customers yet." in text_of(signed_in(user).get("/desk/"))
