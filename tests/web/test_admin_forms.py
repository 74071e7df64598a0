"""The admin's forms: tokens as people write them, facts as commands, refusals at their field."""

import html
import re
import uuid
from typing import Any

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone
from djmoney.money import Money

from billing import periods, subscriptions
from billing.models import (
    Customer,
    CustomerMember,
    Subscription,
    TopUpPack,
    Vendor,
)
from ledger import access, queries
from ledger.admin.accounts import AccountAdmin
from ledger.models import ApiKey, BookMember, Rate, RateCard, RateCardVersion, Unit
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, text_of


@pytest.fixture
def pricing(ours: Company, signed_in):
    return signed_in(ours.pricing)


def test_a_pack_is_drafted_published_and_retired(pricing, ours: Company) -> None:
    typed = {
        "vendor": ours.shop.vendor.pk,
        "name": "Summer pack",
        "code": "summer",
        "microtokens": "2500",
        "validity_months": "6",
        "prices-TOTAL_FORMS": 1,
        "prices-INITIAL_FORMS": 0,
        "prices-0-paid_in": "EUR",
        "prices-0-from_quantity": "1",
        "prices-0-price": "300",
    }
    pricing.post(reverse("admin:billing_topuppack_add"), typed)
    pack = TopUpPack.objects.get(code="summer")
    assert (pack.microtokens, pack.prices.get().price) == (2_500 * TOKEN, Money(300, "EUR"))
    pricing.post(f"/admin/billing/topuppack/{pack.pk}/publish/")
    pack.refresh_from_db()
    assert pack.published_at is not None
    assert (
        pricing.post(reverse("admin:billing_topuppack_change", args=[pack.pk]), typed).status_code
        == 403
    )
    pricing.post(f"/admin/billing/topuppack/{pack.pk}/retire/")
    pack.refresh_from_db()
    assert pack.retired_at is not None


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"prices-0-price": "0"}, "price", "It must be more than 0."),
        ({"prices-0-price": "10.5", "prices-0-paid_in": "JPY"}, "price", "whole amounts only"),
        ({"prices-0-from_quantity": "2"}, "from_quantity", "must be 1 for the first price"),
        ({"season_until_on": "2026-11-30"}, "season_until_on", "must not be before the season"),
        ({"microtokens": "0"}, "microtokens", "from 1 to a billion"),
        ({"plans": "999999999"}, "plans", "not one of the available"),
    ],
)
def test_what_is_wrong_with_a_pack_is_said_at_its_field(
    changed: dict[str, Any], field: str, said: str, pricing, ours: Company
) -> None:
    typed = {
        "vendor": ours.shop.vendor.pk,
        "name": "A",
        "code": "a",
        "microtokens": "1",
        "validity_months": "6",
        "season_from_on": "2026-12-01",
        "prices-TOTAL_FORMS": 1,
        "prices-INITIAL_FORMS": 0,
        "prices-0-paid_in": "EUR",
        "prices-0-from_quantity": "1",
        "prices-0-price": "10",
    }
    response = pricing.post(reverse("admin:billing_topuppack_add"), typed | changed)
    form = response.context["adminform"].form
    [row] = response.context["inline_admin_formsets"][0].formset.forms
    assert said in " ".join((row if field in row.fields else form).errors[field])
    assert not TopUpPack.objects.filter(code="a").exists()


def test_a_pack_is_offered_to_ones_own_plans_only(pricing, ours: Company, theirs: Company) -> None:
    page = pricing.get(reverse("admin:billing_topuppack_add"))
    offered = set(page.context["adminform"].form.fields["plans"].queryset)
    assert ours.draft.plan in offered
    assert theirs.draft.plan not in offered


def test_a_rate_card_is_drafted_and_published(pricing, ours: Company) -> None:
    card = RateCard.objects.get(pk=ours.shop.rate_card_id)
    meter = card.versions.get().rates.get().meter
    typed = {
        "rate_card": card.pk,
        "effective_at_0": "2030-01-01",
        "effective_at_1": "00:00",
        "rates-TOTAL_FORMS": 1,
        "rates-INITIAL_FORMS": 0,
        "rates-0-meter": meter.pk,
        "rates-0-microtokens": "1.25",
        "rates-0-per_quantity": "1000",
        "rates-0-block_quantity": "1000",
        "rates-0-minimum_microtokens": "0.5",
    }
    pricing.post(reverse("admin:ledger_ratecardversion_add"), typed)
    version = RateCardVersion.objects.get(rate_card=card, number=2)
    rate = Rate.objects.get(version=version)
    assert (rate.microtokens, rate.minimum_microtokens) == (1_250_000, 500_000)

    publish = f"/admin/ledger/ratecardversion/{version.pk}/publish/"
    assert "1.25 tokens per 1,000 Executions" in text_of(pricing.get(publish))
    pricing.post(publish)
    version.refresh_from_db()
    assert version.published_at is not None
    page = reverse("admin:ledger_ratecardversion_change", args=[version.pk])
    assert pricing.post(page, typed).status_code == 403


def test_a_unit_belongs_to_ones_own_book_without_asking(pricing, ours: Company) -> None:
    book_id = ours.shop.vendor.book_id
    typed = {"book": book_id, "name": "Page", "code": "page", "sentence": "One page"}
    pricing.post(reverse("admin:ledger_unit_add"), typed)
    assert Unit.objects.get(code="page").book_id == book_id


def test_nobody_adds_to_another_vendors_book(pricing, theirs: Company) -> None:
    typed = {
        "book": theirs.shop.vendor.book_id,
        "name": "Page",
        "code": "page",
        "sentence": "One page",
    }
    response = pricing.post(reverse("admin:ledger_unit_add"), typed)
    assert "book" in response.context["adminform"].form.errors
    assert not Unit.objects.filter(code="page").exists()


def test_a_key_is_shown_once(ours: Company, signed_in) -> None:
    client = signed_in(ours.admin)
    typed = {"book": ours.shop.vendor.book_id, "name": "production"}
    response = client.post(reverse("admin:ledger_apikey_add"), typed)
    key = ApiKey.objects.get(name="production")
    [secret] = {
        word.strip('"')
        for word in text_of(response).replace("&quot;", '"').split()
        if word.startswith(key.prefix)
    }
    assert access.book_of_api_key(secret=secret) == ours.shop.vendor.book_id
    assert "no-store" in response["Cache-Control"]
    for path in (
        reverse("admin:ledger_apikey_change", args=[key.pk]),
        reverse("admin:ledger_apikey_changelist"),
        reverse("admin:ledger_apikey_history", args=[key.pk]),
    ):
        assert secret not in client.get(path).content.decode()


def test_a_key_is_revoked_after_asking(ours: Company, signed_in) -> None:
    client = signed_in(ours.admin)
    revoke = f"/admin/ledger/apikey/{ours.key.pk}/revoke/"
    assert "cannot be undone" in text_of(client.get(revoke))
    ours.key.refresh_from_db()
    assert ours.key.revoked_at is None
    client.post(revoke)
    ours.key.refresh_from_db()
    assert ours.key.revoked_at is not None


def customer_form(of: Company, **changed: Any) -> dict[str, Any]:
    typed: dict[str, Any] = {
        "vendor": of.shop.vendor.pk,
        "name": "Northwind",
        "code": "northwind",
        "email": "bills@northwind.example",
        "rate_card_id": of.shop.rate_card_id,
        "default_cost_centre": "legal",
        "currency": "EUR",
        "time_zone": "Europe/Berlin",
    }
    return typed | changed


def test_adding_a_customer_opens_its_account(ours: Company, signed_in) -> None:
    client = signed_in(ours.account_manager)
    client.post(reverse("admin:billing_customer_add"), customer_form(ours))
    customer = Customer.objects.get(code="northwind")
    assert queries.balances(account_ids=[customer.account_id], at=timezone.now())
    account = reverse("admin:ledger_account_change", args=[customer.account_id])
    assert "Europe/Berlin" in text_of(client.get(account))
    client.post(
        reverse("admin:billing_customer_change", args=[customer.pk]),
        {"name": "Northwind Ltd", "email": "a@b.example", "time_zone": "Europe/Paris"},
    )
    customer.refresh_from_db()
    assert (customer.name, customer.time_zone) == ("Northwind Ltd", "Europe/Paris")
    assert "Europe/Paris" in text_of(client.get(account))


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"time_zone": "Mars/Base"}, "time_zone", "is no time zone"),
        ({"currency": "XXX"}, "currency", "not one of the available choices"),
        ({"payment_days": "400"}, "payment_days", "from 1 to 365"),
        ({"code": "ours-customer", "name": "Another"}, "code", "already exists"),
    ],
)
def test_a_customer_that_cannot_be_is_refused_at_the_field(
    changed: dict[str, Any], field: str, said: str, ours: Company, signed_in
) -> None:
    client = signed_in(ours.admin)
    response = client.post(reverse("admin:billing_customer_add"), customer_form(ours, **changed))
    errors = response.context["adminform"].form.errors
    assert said in " ".join([*errors.get(field, []), *errors.get("__all__", [])])
    assert Customer.objects.filter(vendor=ours.shop.vendor).count() == 1


def test_adding_a_subscription_is_the_command_and_sent_twice_it_subscribes_once(
    ours: Company, signed_in
) -> None:
    client = signed_in(ours.account_manager)
    buyer = builders.customer(ours.shop)
    page = client.get(reverse("admin:billing_subscription_add"))
    typed = {
        "id": str(page.context["adminform"].form.initial.get("id") or uuid.uuid4()),
        "customer": buyer.pk,
        "plan_version": ours.version.pk,
        "starts_at_0": "2026-11-01",
        "starts_at_1": "00:00",
    }
    for _ in range(2):
        client.post(reverse("admin:billing_subscription_add"), typed)
    subscription = Subscription.objects.get(customer=buyer)
    assert subscription.periods.count() >= 1
    again = client.post(
        reverse("admin:billing_subscription_add"), typed | {"id": str(uuid.uuid4())}
    )
    assert "has a subscription already" in text_of(again)

    ends_at = subscriptions.runs_until(subscription=subscription)
    assert ends_at is not None
    ending = f"the subscription ends on {periods.date_text(ends_at, 'UTC')}"
    cancel = f"/admin/billing/subscription/{subscription.pk}/cancel/"
    assert ending in text_of(client.get(cancel))
    assert ending in text_of(client.post(cancel, {"when": "end"}, follow=True))
    subscription.refresh_from_db()
    assert subscription.cancelled_at is not None


def test_a_draft_cannot_be_subscribed_to(ours: Company, signed_in) -> None:
    page = signed_in(ours.admin).get(reverse("admin:billing_subscription_add"))
    offered = page.context["adminform"].form.fields["plan_version"].queryset
    assert ours.version in offered
    assert ours.draft not in offered


def test_a_person_is_invited_by_mail_and_chooses_a_password(
    ours: Company, signed_in, client, django_capture_on_commit_callbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        signed_in(ours.admin).post(
            reverse("admin:billing_customermember_add"),
            {"customer": ours.customer.pk, "email": "Nora@Northwind.example", "role": "buyer"},
        )
    member = CustomerMember.objects.get(user__username="nora@northwind.example")
    assert (member.customer, member.user.is_staff) == (ours.customer, False)
    [letter] = mail.outbox
    link = next(line for line in letter.body.splitlines() if "/sign-in/" in line)
    page = client.get("/sign-in/" + link.split("/sign-in/")[1], follow=True)
    password = {"new_password1": "a tall green door", "new_password2": "a tall green door"}
    arrived = client.post(page.redirect_chain[-1][0], password, follow=True)
    assert "Available now" in text_of(arrived)


def test_a_colleague_gets_into_the_admin_with_a_role(
    ours: Company, signed_in, django_capture_on_commit_callbacks
) -> None:
    admin = signed_in(ours.admin)
    typed = {"book": ours.shop.vendor.book_id, "email": "paul@ours.example", "role": "pricing"}
    with django_capture_on_commit_callbacks(execute=True):
        admin.post(reverse("admin:ledger_bookmember_add"), typed)
    member = BookMember.objects.get(user__username="paul@ours.example")
    assert (member.role, member.user.is_staff, len(mail.outbox)) == ("pricing", True, 1)
    again = admin.post(reverse("admin:ledger_bookmember_add"), typed)
    assert "member already" in text_of(again)
    admin.post(
        reverse("admin:ledger_bookmember_change", args=[member.pk]), {"role": "account_manager"}
    )
    member.refresh_from_db()
    assert member.role == "account_manager"


def test_the_home_page_says_what_to_do_next(ours: Company, signed_in) -> None:
    root = builders.person(is_superuser=True, is_staff=True)
    access.add_member(book_id=ours.shop.vendor.book_id, user=root, role="admin")
    assert "Send the first run" in text_of(signed_in(root).get("/admin/"))
    builders.use(ours.customer, 1, occurred_at=timezone.now())
    assert "Everything is set up" in text_of(signed_in(ours.admin).get("/admin/"))


def test_a_vendor_is_opened_by_a_superuser(signed_in, db: None) -> None:
    root = signed_in(builders.person(is_superuser=True, is_staff=True))
    assert "Open a vendor" in text_of(root.get("/admin/"))
    add = reverse("admin:billing_vendor_add")
    proposed = root.get(add).context["adminform"].form
    days = {name: proposed[name].value() for name in ("dunning_retry_days", "dunning_grace_days")}
    root.post(add, {"name": "Lexora", "code": "lexora", **days})
    assert Vendor.objects.get(code="lexora").book_id
    assert "Say what a token is" in text_of(root.get("/admin/"))


def test_accounts_are_listed_by_how_many_runs_they_had(ours: Company, signed_in) -> None:
    busy, quiet = (builders.customer(ours.shop, code=code) for code in ("z-busy", "a-quiet"))
    for _ in range(2):
        builders.use(busy, 1, occurred_at=timezone.now())
    builders.use(quiet, 1, occurred_at=timezone.now())
    client = signed_in(ours.admin)
    runs = [*AccountAdmin.list_display].index("runs_count")
    for order in (f"-{runs}", str(runs)):
        page = client.get(reverse("admin:ledger_account_changelist"), {"o": order})
        listed = [(row.code, row.runs_now) for row in page.context["cl"].result_list]
        expected = [("z-busy", 2), ("a-quiet", 1), (ours.customer.code, 0)]
        assert listed == (expected if order.startswith("-") else expected[::-1])


def test_accounts_show_lots_and_runs(ours: Company, signed_in) -> None:
    builders.use(ours.customer, 7, occurred_at=timezone.now())
    client = signed_in(ours.admin)
    shown = text_of(
        client.get(reverse("admin:ledger_account_change", args=[ours.customer.account_id]))
    )
    assert "993" in shown
    assert "review" in shown
    [lot] = [
        lot for lot in queries.lots(account_ids=[ours.customer.account_id]) if lot.kind == "prepaid"
    ]
    of_lot = text_of(client.get(reverse("admin:ledger_lot_change", args=[lot.id])))
    assert "EUR 1,000" in of_lot
    assert "993" in of_lot


def test_the_request_that_is_shown_with_a_key_works(ours: Company, signed_in, client) -> None:
    response = signed_in(ours.admin).post(
        reverse("admin:ledger_apikey_add"),
        {"book": ours.shop.vendor.book_id, "name": "production"},
    )
    shown = html.unescape(response.content.decode())
    [secret] = set(re.findall(r"Bearer (rl_[\w-]+)", shown))
    [address] = re.findall(r'curl "http://testserver(\S+)"', shown)
    [body] = re.findall(r"-d '(.+?)'", shown, re.DOTALL)
    answer = client.post(
        address,
        body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert answer.status_code in (200, 201, 202), answer.content
    assert queries.runs_count(account_ids=[ours.customer.account_id]) == 1
