"""A new version of a rate card starts from the rates that hold, and tells what it would drop."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from ledger import catalog
from ledger.models import RateCardVersion
from tests.web.conftest import Company, text_of
from tests.web.facts import waits_for_a_price

ADD = "admin:ledger_ratecardversion_add"


def draft(of: Company) -> RateCardVersion:
    """A version that has no rate yet."""
    card_id = of.shop.rate_card_id
    number = catalog.next_version_number(rate_card_id=card_id)
    return RateCardVersion.objects.create(
        rate_card_id=card_id, number=number, effective_at=timezone.now()
    )


def typed_in(response: Any) -> dict[str, str]:
    """What stands in the form's fields of rates, by their names."""
    form = response.context["inline_admin_formsets"][0].formset
    return {
        f"{one.prefix}-{name}": str(one[name].value()) for one in form.forms for name in one.fields
    }


def test_a_new_version_starts_from_the_rates_that_hold(ours: Company, signed_in) -> None:
    client = signed_in(ours.pricing)
    [in_force] = RateCardVersion.objects.filter(rate_card_id=ours.shop.rate_card_id)
    rates = list(in_force.rates.order_by("id"))
    page = f"{reverse(ADD)}?rate_card={ours.shop.rate_card_id}"
    fields = typed_in(client.get(page))
    for place, rate in enumerate(rates):
        assert fields[f"rates-{place}-meter"] == str(rate.meter_id)
        assert fields[f"rates-{place}-per_quantity"] == str(rate.per_quantity)
    assert f"rates-{len(rates)}-meter" not in fields
    typed = {
        **{name: "" if value == "None" else value for name, value in fields.items()},
        "rate_card": ours.shop.rate_card_id,
        "effective_at_0": "2026-01-01",
        "effective_at_1": "00:00",
        "rates-TOTAL_FORMS": len(rates),
        "rates-INITIAL_FORMS": 0,
    }
    assert client.post(page, typed).status_code == 302
    drafted = RateCardVersion.objects.exclude(pk=in_force.pk).get()
    kept = drafted.rates.order_by("id").values_list("meter_id", "engine_id", "microtokens")
    assert list(kept) == [(rate.meter_id, rate.engine_id, rate.microtokens) for rate in rates]


def test_rates_of_another_vendors_card_are_not_offered(
    ours: Company, theirs: Company, signed_in
) -> None:
    for card in (str(theirs.shop.rate_card_id), "x", "9" * 30):
        fields = typed_in(signed_in(ours.pricing).get(reverse(ADD), {"rate_card": card}))
        assert fields["rates-0-microtokens"] == "None"
        assert "rates-1-meter" not in fields


def test_publishing_tells_which_rates_have_none_in_their_place(ours: Company, signed_in) -> None:
    client = signed_in(ours.pricing)
    version = draft(ours)
    before = RateCardVersion.objects.exclude(pk=version.pk).get(rate_card_id=ours.shop.rate_card_id)
    lost, kept = before.rates.order_by("id").first(), "documents"
    assert lost is not None
    catalog.create_meter(book_id=ours.shop.vendor.book_id, code=kept, name="Documents")
    meter = lost.meter.__class__.objects.get(book_id=ours.shop.vendor.book_id, code=kept)
    version.rates.create(meter=meter, microtokens=1_000_000)
    publish = f"/admin/ledger/ratecardversion/{version.pk}/publish/"
    shown = text_of(client.get(publish))
    assert "Priced until then, but not in this version" in shown
    assert f"per {lost.per_quantity:,} {lost.meter.name}" in shown
    for rate in before.rates.all():
        rate.pk, rate.version = None, version
        rate.save()
    assert "Priced until then, but not in this version" not in text_of(client.get(publish))


def test_runs_that_wait_lead_to_a_draft_in_force_from_the_first_of_them(
    ours: Company, signed_in
) -> None:
    waits_for_a_price(ours, "r-1")
    client = signed_in(ours.pricing)
    card = reverse("admin:ledger_ratecard_change", args=[ours.shop.rate_card_id])
    found = re.search(rf'href="({reverse(ADD)}\?[^"]+)"', client.get(card).content.decode())
    assert found is not None
    form = client.get(html.unescape(found[1])).context["adminform"].form
    effective_at = form.initial["effective_at"]
    assert timedelta() <= datetime.now(UTC) - effective_at < timedelta(minutes=2)
    nonsense = client.get(reverse(ADD), {"effective_at": "2026-02-31T00:00Z"})
    assert nonsense.context["adminform"].form.initial["effective_at"] is None


def test_versions_are_a_click_away_and_say_which_is_in_force(ours: Company, signed_in) -> None:
    later = draft(ours)
    page = signed_in(ours.pricing).get(
        reverse("admin:ledger_ratecard_change", args=[ours.shop.rate_card_id])
    )
    shown = text_of(page)
    assert "in force, published on" in shown
    assert "draft" in shown
    assert reverse("admin:ledger_ratecardversion_change", args=[later.pk]) in page.content.decode()


def test_who_may_not_draft_or_care_is_shown_no_button_for_it(ours: Company, signed_in) -> None:
    card = reverse("admin:ledger_ratecard_change", args=[ours.shop.rate_card_id])
    plan = reverse("admin:billing_plan_change", args=[ours.version.plan_id])
    customer = reverse("admin:billing_customer_change", args=[ours.customer.pk])
    for page, words, user, other in (
        (card, "Draft a new version", ours.pricing, ours.account_manager),
        (plan, "Draft a new version", ours.pricing, ours.account_manager),
        (customer, "Put on a plan", ours.account_manager, ours.pricing),
        (customer, "Let somebody in", ours.account_manager, ours.pricing),
    ):
        assert words in text_of(signed_in(user).get(page))
        assert words not in text_of(signed_in(other).get(page))


def test_a_customers_buttons_lead_to_forms_that_name_it(ours: Company, signed_in) -> None:
    client = signed_in(ours.account_manager)
    for button, model in (("plan", "subscription"), ("people", "customermember")):
        response = client.get(f"/admin/billing/customer/{ours.customer.pk}/{button}/")
        form = reverse(f"admin:billing_{model}_add")
        assert response["Location"] == f"{form}?customer={ours.customer.pk}"


def test_time_zones_are_offered_by_name(ours: Company, signed_in) -> None:
    page = reverse("admin:billing_customer_change", args=[ours.customer.pk])
    shown = signed_in(ours.account_manager).get(page).content.decode()
    assert '<option value="Europe/Paris">' in shown
    assert 'list="time-zones"' in shown
