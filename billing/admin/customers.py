"""Customers and their people. Adding a customer opens its account; adding a person invites them."""

from functools import cache
from typing import Any, Final
from zoneinfo import available_timezones

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminEmailInputWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing import customers, dunning, payment_methods, periods, previews
from billing.admin import fields
from billing.admin.plan_forms import rate_card_choices
from billing.errors import BillingError
from billing.models import Customer, CustomerMember
from config import people
from config.admin import (
    ACCOUNT_MANAGER,
    ADMIN,
    FINANCE,
    BookAdmin,
    OneBookForm,
    books_of,
    page_action,
    tokens_shown,
)
from ledger import accounts, queries
from ledger.errors import LedgerError

EDITORS = frozenset({ADMIN, FINANCE, ACCOUNT_MANAGER})
TIME_ZONE_HELP = (
    "By whose clock its days and months are counted, such as Europe/Paris."
    " Its subscriptions keep the clock that they began with."
)


class TimeZoneInput(UnfoldAdminTextInputWidget):  # type: ignore[misc]  # unfold has no types
    """A text to type, with the places of the world to choose from."""

    LIST: Final = "time-zones"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["widget"]["attrs"] |= {"list": self.LIST, "autocomplete": "off"}
        return context

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        typed = super().render(name, value, attrs, renderer)
        options = format_html_join("", '<option value="{}">', ((zone,) for zone in _places()))
        return format_html('{}<datalist id="{}">{}</datalist>', typed, self.LIST, options)


@cache
def _places() -> tuple[str, ...]:
    """Time zones by the name of a city; the list's other names, such as EST5EDT, stay valid."""
    regions = ("Africa", "America", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
    cities = (zone for zone in available_timezones() if zone.partition("/")[0] in regions)
    return ("UTC", *sorted(cities))


class CustomerForm(OneBookForm[Customer]):
    """What may change later."""

    class Meta:
        model = Customer
        fields = ("name", "email", "time_zone", "account_manager", "payment_days")

    def clean_time_zone(self) -> str:
        name: str = self.cleaned_data["time_zone"]
        if not accounts.is_time_zone(name):
            raise ValidationError(f"“{name}” is no time zone. Write one such as Europe/Paris.")
        return name


class NewCustomerForm(CustomerForm):
    """What a customer is opened with."""

    books: tuple[int, ...] = ()  # whose rate cards are offered

    currency = fields.currency(help_text="Of all its invoices. It never changes.")
    rate_card_id = forms.TypedChoiceField(
        label="Rate card",
        coerce=int,
        widget=UnfoldAdminSelectWidget,
        help_text="What its work costs in tokens. Its plan must count by the same card.",
    )
    default_cost_centre = forms.CharField(
        max_length=100,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Bears the cost of runs that name none.",
    )

    class Meta:
        model = Customer
        fields = (
            "vendor",
            "name",
            "code",
            "email",
            "time_zone",
            "currency",
            "account_manager",
            "payment_days",
        )

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.fields["rate_card_id"].choices = rate_card_choices(self.books)  # type: ignore[attr-defined]  # a choice field
        self.fields["time_zone"].initial = "UTC"


@admin.register(Customer)
class CustomerAdmin(BookAdmin[Customer]):
    refusals = (BillingError, LedgerError)
    book_path = "vendor__book_id"
    editors = EDITORS
    list_display = ("name", "code", "available", "account_manager")
    list_select_related = ("vendor", "account_manager")
    search_fields = ("name", "code", "email")
    ordering = ("name",)
    purpose = (
        "Who buys tokens. Opening a customer opens its account: its runs name it by its code."
        " Then let its people in, and put it on a plan."
    )
    add_fieldsets = (
        (None, {"fields": ("vendor", "name", "code", "email")}),
        ("Work", {"fields": ("rate_card_id", "default_cost_centre")}),
        ("Money and time", {"fields": ("currency", "payment_days", "time_zone")}),
        ("Care", {"fields": ("account_manager",)}),
    )
    fieldsets = (
        (None, {"fields": ("vendor", "name", "code", "email", "available")}),
        (
            "Money and time",
            {"fields": ("currency", "payment_days", "time_zone", "card", "payments")},
        ),
        ("Care", {"fields": ("account_manager",)}),
        ("At Stripe", {"fields": ("stripe_customer_id",)}),
    )
    fixed = ("vendor", "code", "currency", "stripe_customer_id", "available", "card", "payments")
    actions_detail = ("put_on_a_plan", "let_somebody_in", "next_invoice")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.add_fieldsets if obj is None else self.fieldsets

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **options | {"form": CustomerForm})
        form = super().get_form(request, obj, change, **options | {"form": NewCustomerForm})
        books = tuple(books_of(request, roles=self.editors))
        return type("OwnNewCustomerForm", (form,), {"books": books})

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **options)
        if db_field.name == "time_zone":
            field.help_text, field.widget = TIME_ZONE_HELP, TimeZoneInput()
        return field

    @page_action(description="Put on a plan", url_path="plan", roles=EDITORS, icon="event_repeat")
    def put_on_a_plan(self, request: HttpRequest, customer: Customer) -> HttpResponse:
        return redirect(f"{reverse('admin:billing_subscription_add')}?customer={customer.pk}")

    @page_action(description="Let somebody in", url_path="people", roles=EDITORS, icon="person_add")
    def let_somebody_in(self, request: HttpRequest, customer: Customer) -> HttpResponse:
        return redirect(f"{reverse('admin:billing_customermember_add')}?customer={customer.pk}")

    @page_action(
        description="Next invoice", url_path="next-invoice", roles=EDITORS, icon="receipt_long"
    )
    def next_invoice(self, request: HttpRequest, customer: Customer) -> HttpResponse:
        """What it would say if it were built now."""
        shown = previews.next_invoice(customer=customer, at=timezone.now())
        due_at = None if shown is None else shown.due_at
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Next invoice of {customer}",
            "next": shown,
            "due_on": due_at and periods.date_text(due_at, customer.time_zone),
            "back": reverse("admin:billing_customer_change", args=[customer.pk]),
        }
        return TemplateResponse(request, "admin/next_invoice.html", context)

    @admin.display(description="available (tokens)")
    def available(self, customer: Customer) -> str:
        at = timezone.now()
        balance = queries.balances(account_ids=[customer.account_id], at=at)[customer.account_id]
        return tokens_shown(balance.available_microtokens)

    @admin.display(description="charged to")
    def card(self, customer: Customer) -> str:
        return str(payment_methods.charged(customer=customer) or "no card")

    @admin.display(description="payments")
    def payments(self, customer: Customer) -> str:
        """Where it stands, and for which invoices."""
        unpaid = dunning.cases(customers=[customer], at=timezone.now()).get(customer.pk, [])
        state = STATES[dunning.state(cases=unpaid)]
        return state + "".join(f"; invoice {case.number}: {case.message}" for case in unpaid)

    def save_model(self, request: HttpRequest, obj: Customer, form: Any, change: bool) -> None:
        if change:
            typed = {name: getattr(obj, name) for name in CustomerForm.Meta.fields}
            customers.change_customer(customer_id=obj.pk, **typed)
            return
        typed = form.cleaned_data
        opened = customers.open_customer(
            vendor_id=obj.vendor_id,
            code=obj.code,
            name=obj.name,
            email=obj.email,
            currency=typed["currency"],
            time_zone=obj.time_zone,
            rate_card_id=typed["rate_card_id"],
            default_cost_centre=typed["default_cost_centre"],
            account_manager=obj.account_manager,
            payment_days=obj.payment_days,
            at=timezone.now(),
        )
        obj.pk, obj.account_id = opened.pk, opened.account_id


STATES = {
    dunning.State.CURRENT: "in order",
    dunning.State.PAST_DUE: "past due",
    dunning.State.RESTRICTED: "past due: no new holds",
}


class CustomerMemberForm(OneBookForm[CustomerMember]):
    email = forms.EmailField(
        widget=UnfoldAdminEmailInputWidget,
        help_text="Whoever is new gets a mail with a link to choose a password.",
    )

    class Meta:
        model = CustomerMember
        fields = ("customer", "role")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        known = CustomerMember.objects.filter(
            customer=cleaned.get("customer"),
            user__username=people.username(cleaned.get("email", "")),
        )
        if known.exists():
            self.add_error("email", "This person is a member already: change their role.")
        return cleaned


@admin.register(CustomerMember)
class CustomerMemberAdmin(BookAdmin[CustomerMember]):
    book_path = "customer__vendor__book_id"
    editors = EDITORS
    list_display = ("person", "customer", "role")
    list_select_related = ("customer__vendor", "user")
    search_fields = ("user__username", "customer__name")
    ordering = ("customer__name", "user__username")
    fixed = ("customer", "person")
    purpose = (
        "People of your customers. They sign in to the portal; a buyer or an administrator there"
        " buys tokens, finance and viewers read."
    )

    @admin.display(description="person", ordering="user__username")
    def person(self, member: CustomerMember) -> str:
        return member.user.get_username()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        first = "email" if obj is None else "person"
        return ("customer", first, "role")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        form = {} if obj is not None else {"form": CustomerMemberForm}
        return super().get_form(request, obj, change, **options | form)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A person leaves by being taken off the list."""
        return self.may(request, EDITORS, obj)

    def save_model(
        self, request: HttpRequest, obj: CustomerMember, form: Any, change: bool
    ) -> None:
        if not change:
            obj.user = people.invite(email=form.cleaned_data["email"], staff=False)
        member = customers.add_member(customer_id=obj.customer_id, user=obj.user, role=obj.role)
        obj.pk = member.pk
