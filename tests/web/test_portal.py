"""The portal shows a customer what it has, and nothing of anybody else."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.mail import EmailMessage, get_connection
from djmoney.money import Money

from billing import customers, standing, top_ups
from billing.models import TopUp
from ledger import grants, holds
from ledger.holds import NewHold
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, text_of
from tests.web.facts import alert_and_top_up


def pages_of(of: Company) -> list[str]:
    _, bought = alert_and_top_up(of)
    root = f"/portal/{of.customer.reference}/"
    top_up = f"/portal/top-ups/{bought.pk}/"
    of_customer = [
        f"{root}{page}/" for page in ("runs", "plan", "invoices", "buy", "payment", "auto-top-up")
    ]
    statement = f"{root}invoices/{of.customer.invoices.get().pk}/statement"
    return [root, *of_customer, f"{statement}/", f"{statement}.csv", top_up, f"{top_up}state/"]


def test_people_of_another_customer_find_nothing(ours: Company, theirs: Company, signed_in) -> None:
    for path in pages_of(theirs):
        assert signed_in(theirs.buyer).get(path).status_code == 200, path
        for stranger in (ours.buyer, ours.admin, theirs.admin):
            assert signed_in(stranger).get(path).status_code == 404, path


def test_two_customers_of_one_vendor_are_strangers(ours: Company, signed_in) -> None:
    neighbour = builders.buyer(builders.customer(ours.shop))
    for path in pages_of(ours):
        assert signed_in(neighbour).get(path).status_code == 404


def test_who_is_not_signed_in_is_sent_to_sign_in(ours: Company, client) -> None:
    for path in [*pages_of(ours), "/portal/", "/", "/development/mail/"]:
        response = client.get(path)
        assert response.status_code == 302
        assert response["Location"] == f"/sign-in/?next={path}"


def test_a_stranger_buys_nothing(ours: Company, theirs: Company, signed_in) -> None:
    typed = {"pack": theirs.pack.pk, "key": str(uuid.uuid4())}
    path = f"/portal/{theirs.customer.reference}/buy/"
    assert signed_in(ours.buyer).post(path, typed).status_code == 404
    assert not TopUp.objects.exists()


def test_packs_of_another_vendor_are_not_for_sale(
    ours: Company, theirs: Company, signed_in
) -> None:
    client = signed_in(ours.buyer)
    path = f"/portal/{ours.customer.reference}/buy/"
    typed = {"pack": theirs.pack.pk, "key": str(uuid.uuid4())}
    assert "cannot be bought any more" in text_of(client.post(path, typed, follow=True))
    assert not TopUp.objects.exists()


@pytest.mark.parametrize(
    "typed",
    [{}, {"pack": "x"}, {"pack": "1", "key": "x"}, {"pack": "9" * 30, "key": str(uuid.uuid4())}],
)
def test_a_choice_that_is_none_changes_nothing(typed, ours: Company, signed_in) -> None:
    path = f"/portal/{ours.customer.reference}/buy/"
    shown = signed_in(ours.buyer).post(path, typed, follow=True)
    assert "choose one of the packs" in text_of(shown)


def test_without_stripe_nothing_is_charged_and_the_same_purchase_can_be_tried_again(
    ours: Company, signed_in, settings
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_of_nobody"
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    path = f"/portal/{ours.customer.reference}/buy/"
    key = str(uuid.uuid4())
    response = signed_in(ours.buyer).post(path, {"pack": ours.pack.pk, "key": key})
    assert response.status_code == 503
    html = response.content.decode()
    assert "The payment page could not be opened. Nothing was charged" in html
    assert f'value="{key}"' in html


@pytest.mark.parametrize("role", ["viewer", "finance"])
def test_who_may_not_buy_can_look(role: str, ours: Company, signed_in) -> None:
    client = signed_in(builders.buyer(ours.customer, role=role))
    path = f"/portal/{ours.customer.reference}/buy/"
    shown = client.get(path)
    assert "You can look, but not buy" in text_of(shown)
    assert 'name="pack"' not in shown.content.decode()
    typed = {"pack": ours.pack.pk, "key": str(uuid.uuid4())}
    refused = client.post(path, typed)
    assert refused.status_code == 403
    assert "Your role does not allow this" in refused.content.decode()
    assert not TopUp.objects.exists()


def test_the_overview_tells_balance_use_lots_and_expiry(ours: Company, signed_in) -> None:
    now = datetime.now(UTC)
    builders.use(ours.customer, 250, occurred_at=now, at=now)
    grants.grant(
        account_id=ours.customer.account_id,
        microtokens=10 * TOKEN + 500_000,
        source="bonus",
        price_micros=0,
        currency="EUR",
        priority=90,
        effective_at=now,
        expires_at=now + timedelta(days=400),
        idempotency_key="bonus",
        at=now,
    )
    shown = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/"))
    assert "760.5 tokens" in shown
    assert "250 of 1,000 of this period's allotment used 25 %" in shown
    assert "review 250" in shown
    assert "Bonus" in shown
    assert f"{now + timedelta(days=400):%b %Y}" in shown
    # 750 are left, of which 200 roll over.
    assert "550 tokens on" in shown


def test_lots_that_expire_at_one_instant_are_told_as_one_loss(ours: Company, signed_in) -> None:
    now = datetime.now(UTC)
    expires_at = now + timedelta(hours=1)
    for name, price_micros in (("bonus", 0), ("pack", 7_000_000), ("gift", 0)):
        grants.grant(
            account_id=ours.customer.account_id,
            microtokens=10 * TOKEN,
            source=name,
            price_micros=price_micros,
            currency="EUR",
            priority=90,
            effective_at=now,
            expires_at=expires_at,
            idempotency_key=name,
            at=now,
        )
    first = standing.of_customer(customer=ours.customer, at=now).expiring[0]
    assert (first.microtokens, first.worth) == (30 * TOKEN, Money(7, "EUR"))
    shown = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/"))
    assert "30 tokens on" in shown


def test_debt_and_overage_are_told(ours: Company, signed_in) -> None:
    now = datetime.now(UTC)
    builders.use(ours.customer, 1_030, occurred_at=now, at=now)
    shown = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/"))
    assert "0 tokens" in shown
    assert "Owed, repaid by the next tokens 30 tokens" in shown
    assert "No tokens left." in shown


def test_what_is_held_for_runs_under_way_is_told(ours: Company, signed_in) -> None:
    root = f"/portal/{ours.customer.reference}/"
    assert "held for runs" not in text_of(signed_in(ours.buyer).get(root))
    hold = NewHold(
        run="under-way", account=ours.customer.code, workflow="review", microtokens=7 * TOKEN
    )
    book_id = ours.shop.vendor.book_id
    assert holds.authorize_one(book_id=book_id, hold=hold, at=datetime.now(UTC)).held_at
    for user, page in ((ours.buyer, root), (ours.account_manager, root.replace("portal", "desk"))):
        assert "held for runs under way 7 tokens" in text_of(signed_in(user).get(page))


def test_a_new_customer_reads_what_comes_next(ours: Company, signed_in) -> None:
    newcomer = builders.customer(ours.shop, code="newcomer")
    client = signed_in(builders.buyer(newcomer))
    root = f"/portal/{newcomer.reference}/"
    first = text_of(client.get(root))
    assert "There is no plan running" in first
    assert "No runs yet." in first
    assert "newcomer" in first
    assert "No invoices yet." in text_of(client.get(f"{root}invoices/"))


def test_invoices_tell_their_state(ours: Company, signed_in) -> None:
    shown = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/invoices/"))
    assert "Being prepared Platform fee, allotment" in shown
    assert "€1,500.00" in shown


def test_times_are_those_of_the_customers_clock(ours: Company, signed_in) -> None:
    abroad = builders.customer(ours.shop, time_zone="Asia/Tokyo")
    builders.subscription(abroad, ours.version, starts_at=datetime(2026, 11, 1, tzinfo=UTC))
    builders.use(abroad, 1, occurred_at=datetime(2026, 11, 3, 20, 15, tzinfo=UTC))
    shown = text_of(signed_in(builders.buyer(abroad)).get(f"/portal/{abroad.reference}/runs/"))
    assert "4 Nov, 05:15" in shown


def test_a_person_of_several_customers_chooses(ours: Company, theirs: Company, signed_in) -> None:
    client = signed_in(ours.buyer)
    assert client.get("/portal/")["Location"] == f"/portal/{ours.customer.reference}/"
    customers.add_member(customer_id=theirs.customer.pk, user=ours.buyer, role="viewer")
    chosen = text_of(client.get("/portal/"))
    assert "Ours-Customer" in chosen
    assert "Theirs-Customer" in chosen


def test_a_top_up_tells_how_it_stands(ours: Company, signed_in) -> None:
    _, bought = alert_and_top_up(ours)
    client = signed_in(ours.buyer)
    path = f"/portal/top-ups/{bought.pk}/"
    assert "Not paid yet" in text_of(client.get(path))
    assert "on their way" in text_of(client.get(f"{path}?session_id=cs_1"))
    assert "on their way" in text_of(client.get(f"{path}state/?session_id=1"))
    assert "Not paid yet" in text_of(client.get(f"{path}?cancelled=1"))
    top_ups.record_session(
        top_up_id=bought.pk,
        stripe_session_id="cs_1",
        url="https://pay.example",
        at=datetime.now(UTC),
    )
    bought.session.expired_at = datetime.now(UTC)
    bought.session.save()
    assert "closed unpaid" in text_of(client.get(path))


def test_a_price_of_a_token_that_does_not_come_out_even_is_about(ours: Company, signed_in) -> None:
    builders.pack(ours.shop, tokens=7_000, price=Money(300, "EUR"))
    shown = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/buy/"))
    assert "about €0.0428 a token" in shown
    assert "€1.20 a token" in shown


def test_pages_allow_nothing_from_elsewhere_and_are_not_kept(ours: Company, signed_in) -> None:
    response = signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/")
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert "no-store" in response["Cache-Control"]
    html = response.content.decode()
    assert "style=" not in html
    assert "<script>" not in html


def test_development_mail_is_shown_in_development_alone(
    ours: Company, signed_in, settings, tmp_path: Path
) -> None:
    settings.EMAIL_FILE_PATH = tmp_path
    files = get_connection(
        "django.core.mail.backends.filebased.EmailBackend", file_path=str(tmp_path)
    )
    letters = [
        EmailMessage("First", "Hello <b>", to=["a@b.example"], connection=files),
        EmailMessage("Second", "https://somewhere.example", to=["c@d.example"], connection=files),
    ]
    files.send_messages(letters)
    client = signed_in(ours.buyer)
    listed = client.get("/development/mail/")
    assert "First a@b.example" in text_of(listed)
    names = [mail.name for mail in listed.context["mails"]]
    assert "Hello &lt;b&gt;" in client.get(f"/development/mail/{names[0]}/").content.decode()
    assert client.get("/development/mail/nothing/").status_code == 404
    settings.DEVELOPMENT = False
    assert client.get("/development/mail/").status_code == 404
    assert client.get(f"/development/mail/{names[0]}/").status_code == 404
