"""Of another vendor nobody sees anything in the admin: not in lists, not by address, not in the
choices of a field."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import models
from django.test import Client
from django.urls import reverse

from billing import cohorts, notices
from billing.models import (
    AlertMessage,
    Cohort,
    Customer,
    CustomerMember,
    Invoice,
    JournalDay,
    Notice,
    Plan,
    PlanVersion,
    StripeCall,
    StripeEvent,
    Subscription,
    TopUp,
    TopUpPack,
    Vendor,
)
from config.admin import BookAdmin, SuperuserOnly
from ledger.models import (
    Account,
    ApiKey,
    Book,
    BookMember,
    Engine,
    Lot,
    Meter,
    RateCard,
    RateCardVersion,
    Unit,
    Workflow,
)
from tests import builders
from tests.web.conftest import Company, text_of
from tests.web.facts import alert_and_top_up

OF_A_BOOK: list[type[models.Model]] = [
    *(Unit, Meter, Engine, Workflow, RateCard, RateCardVersion, ApiKey, BookMember, Account, Lot),
    *(Vendor, Plan, PlanVersion, TopUpPack, Customer, CustomerMember, Subscription, Invoice),
    *(TopUp, AlertMessage, Cohort, JournalDay, Notice),
]
OF_THE_INSTALLATION = [User, Group, Book, StripeCall, StripeEvent]


def rows(model: type[models.Model], of: Company) -> list[Any]:
    owner = admin.site._registry[model]
    assert isinstance(owner, BookAdmin)
    return [
        row
        for row in owner.model._default_manager.all()
        if owner.book_id_of(row) == of.shop.vendor.book_id
    ]


def page(model: type[models.Model], name: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


@pytest.fixture
def both(ours: Company, theirs: Company) -> tuple[Company, Company]:
    for one in (ours, theirs):
        JournalDay.objects.create(
            vendor=one.shop.vendor, day=builders.OPENED.date(), closed_at=builders.OCTOBER
        )
        Workflow.objects.create(book_id=one.shop.vendor.book_id, code="review", name="Review")
        alert_and_top_up(one)
        notices.tell(
            customer=one.customer,
            about=one.customer.code,
            subject="s",
            body="b",
            at=builders.OPENED,
        )
        cohort = cohorts.create_cohort(vendor_id=one.shop.vendor.pk, name="Pilot")
        cohorts.add_members(cohort_id=cohort.pk, customers=[one.customer])
        cohorts.offer(cohort_id=cohort.pk, plan_id=one.version.plan_id, from_at=builders.OPENED)
    return ours, theirs


def test_every_class_of_the_admin_is_tried_here() -> None:
    ours_to_try = {*OF_A_BOOK, *OF_THE_INSTALLATION}
    assert set(admin.site._registry) == ours_to_try


def test_rows_of_another_vendor_are_absent(
    both: tuple[Company, Company], signed_in, subtests: pytest.Subtests
) -> None:
    client = signed_in(both[0].admin)
    for model in OF_A_BOOK:
        with subtests.test(model.__name__):
            rows_of_theirs_are_absent(model, both, client)


def rows_of_theirs_are_absent(
    model: type[models.Model], both: tuple[Company, Company], client: Client
) -> None:
    own, others = rows(model, both[0]), rows(model, both[1])
    assert own, "the test needs a row that is there"
    assert others, "the test needs a row that is hidden"

    listed = client.get(page(model, "changelist"))
    shown = {row.pk for row in listed.context["cl"].result_list}
    assert shown == {row.pk for row in own}
    for row in own:
        assert client.get(page(model, "change", row.pk)).status_code == 200
    for row in others:
        for name in ("change", "history", "delete"):
            response = client.get(page(model, name, row.pk))
            assert response.status_code in (403, 404), (name, response.status_code)
            assert client.post(page(model, name, row.pk), {}).status_code in (403, 404)


def test_fields_offer_rows_of_ones_own_vendor_alone(
    both: tuple[Company, Company], signed_in, subtests: pytest.Subtests
) -> None:
    ours, theirs = both
    client = signed_in(ours.admin)
    hidden = {(type(row), row.pk) for other in OF_A_BOOK for row in rows(other, theirs)} | {
        (User, theirs.admin.pk),
        (User, theirs.buyer.pk),
        (Book, theirs.shop.vendor.book_id),
    }
    for model in OF_A_BOOK:
        response = client.get(page(model, "add"))
        if response.status_code != 403:  # somebody adds one here
            with subtests.test(model.__name__):
                assert not offered(response) & hidden
                assert "theirs" not in text_of(response).lower()


def offered(response: Any) -> set[tuple[type[models.Model], Any]]:
    """What can be chosen in the fields of a page, of its parts too."""
    forms = [response.context["adminform"].form]
    forms += [
        form
        for formset in response.context["inline_admin_formsets"]
        for form in [*formset.formset.forms, formset.formset.empty_form]
    ]
    return {
        (type(row), row.pk)
        for form in forms
        for name, field in form.fields.items()
        if name != "id"  # of the part itself, hidden; Django looks it up among the page's parts
        for row in getattr(field, "queryset", None) or []
    }


@pytest.mark.parametrize("model", OF_THE_INSTALLATION)
def test_what_belongs_to_the_installation_is_for_its_superusers(
    model: type[models.Model], ours: Company, signed_in
) -> None:
    assert isinstance(admin.site._registry[model], SuperuserOnly)
    assert signed_in(ours.admin).get(page(model, "changelist")).status_code == 403
    root = User.objects.create_superuser("root", password="secret")
    assert signed_in(root).get(page(model, "changelist")).status_code == 200


def test_steps_of_another_vendors_rows_are_absent(both: tuple[Company, Company], signed_in) -> None:
    ours, theirs = both
    client = signed_in(ours.admin)
    version = theirs.draft
    card = RateCard.objects.get(book_id=theirs.shop.vendor.book_id)
    for path in (
        page(PlanVersion, "change", version.pk).replace("change", "publish"),
        page(PlanVersion, "change", version.pk).replace("change", "retire"),
        page(PlanVersion, "change", version.pk).replace("change", "explain"),
        page(Plan, "change", version.plan_id).replace("change", "draft"),
        page(TopUpPack, "change", theirs.pack.pk).replace("change", "retire"),
        page(RateCard, "change", card.pk).replace("change", "draft"),
        page(ApiKey, "change", theirs.key.pk).replace("change", "revoke"),
        page(Subscription, "change", theirs.subscription.pk).replace("change", "cancel"),
    ):
        assert client.get(path).status_code == 404, path
        assert client.post(path, {}).status_code == 404, path
    version.refresh_from_db()
    theirs.key.refresh_from_db()
    theirs.subscription.refresh_from_db()
    assert (version.published_at, theirs.key.revoked_at) == (None, None)
    assert theirs.subscription.cancelled_at is None


ALL_WITH_STEPS = {"planversion", "plan", "topuppack", "ratecard", "apikey", "customer"}


# The sales sheet of a plan's version is for everybody.
FOR_FINANCE = {"planversion", "customer"}


@pytest.mark.parametrize(("role", "have"), [("admin", ALL_WITH_STEPS), ("finance", FOR_FINANCE)])
def test_nobody_is_shown_a_button_that_would_refuse_them(
    both: tuple[Company, Company], signed_in, role: str, have: set[str]
) -> None:
    ours, _ = both
    client = signed_in(builders.employee(ours.shop, role=role, name=f"{role} of ours"))
    card = RateCard.objects.get(book_id=ours.shop.vendor.book_id)
    steps = []
    for row in (ours.draft, ours.draft.plan, ours.pack, card, ours.key, ours.customer):
        shown = client.get(page(type(row), "change", row.pk))
        steps += [step["path"] for step in shown.context.get("actions_detail") or []]
    assert {path.split("/")[3] for path in steps} == have
    for path in steps:
        assert client.get(path, follow=True).status_code == 200, path


def test_who_is_not_staff_is_sent_to_sign_in(
    ours: Company, signed_in, client: Client, subtests: pytest.Subtests
) -> None:
    visitors = (client, signed_in(ours.buyer))
    for model in OF_A_BOOK:
        for visitor in visitors:
            with subtests.test(model.__name__):
                response = visitor.get(page(model, "changelist"))
                assert response.status_code == 302
                assert response["Location"].startswith("/admin/login/")


@pytest.mark.parametrize(
    ("who", "may"),
    [("pricing", {Unit, Plan, TopUpPack}), ("account_manager", {Customer, Subscription})],
)
def test_a_role_decides_what_may_be_added(
    who: str, may: set[type[models.Model]], ours: Company, signed_in
) -> None:
    client = signed_in(getattr(ours, who))
    for model in (Unit, Plan, TopUpPack, Customer, Subscription, BookMember):
        expected = 200 if model in may else 403
        assert client.get(page(model, "add")).status_code == expected, model


def test_who_lost_the_membership_sees_nothing(ours: Company, signed_in) -> None:
    BookMember.objects.filter(user=ours.admin).delete()
    client = signed_in(ours.admin)
    assert client.get(page(Unit, "changelist")).status_code == 403
    assert "not a member of a vendor yet" in text_of(client.get("/admin/"))
