"""Subscriptions. Adding one is the command: the customer is on the plan from its start on."""

import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from billing import periods, subscriptions
from billing.errors import BillingError
from billing.models import Period, PlanVersion, SizeOption, Subscription
from config.admin import (
    ACCOUNT_MANAGER,
    ADMIN,
    FINANCE,
    FactAdmin,
    FactsInline,
    OneBookForm,
    books_of,
    page_action,
)
from ledger.errors import LedgerError

COMMANDERS = frozenset({ADMIN, FINANCE, ACCOUNT_MANAGER})


class SubscriptionForm(OneBookForm[Subscription]):
    """The row's id is hidden in it: sent twice, it subscribes once."""

    seats = forms.IntegerField(
        required=False,
        min_value=0,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Of a plan with a price for each seat.",
    )

    class Meta:
        model = Subscription
        fields = ("id", "customer", "plan_version", "size", "seats", "starts_at")
        widgets = {"id": forms.HiddenInput}  # noqa: RUF012 - as Django declares it

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        if "id" in self.fields:
            self.fields["id"].initial = uuid.uuid4

    def clean_seats(self) -> int:
        return self.cleaned_data["seats"] or 0

    def validate_unique(self) -> None:
        """A subscription that this very form has made is answered by the operation."""


class PeriodsInline(FactsInline[Period, Subscription]):
    model = Period
    verbose_name_plural = "periods"
    fields = ("number", "starts_at", "ends_at", "opened_at")
    readonly_fields = fields
    ordering = ("-number",)


@admin.register(Subscription)
class SubscriptionAdmin(FactAdmin[Subscription]):
    refusals = (BillingError, LedgerError)
    form = SubscriptionForm
    book_path = "customer__vendor__book_id"
    commanders = COMMANDERS
    list_display = ("customer", "plan_version", "starts_at", "state")
    list_select_related = ("customer__vendor", "plan_version__plan")
    search_fields = ("customer__name",)
    ordering = ("-starts_at",)
    inlines = (PeriodsInline,)
    actions_detail = ("cancel",)
    purpose = (
        "A customer on a version of a plan. Adding one grants the first period's tokens at its"
        " start and builds its first invoice."
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("id", "customer", "plan_version", ("size", "seats"), "starts_at")
        bought = ("customer", "plan_version", *(("size",) if obj.size else ()))
        seats = ("seats",) if obj.seats else ()
        return (*bought, *seats, "starts_at", "time_zone", "subscribed_at", "state")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("state",)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return () if obj is None else self.inlines

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        now: datetime = timezone.now().replace(second=0, microsecond=0)
        return {"starts_at": now, **super().get_changeform_initial_data(request)}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        field = super().formfield_for_foreignkey(db_field, request, **options)
        if db_field.name == "plan_version":
            for_sale: QuerySet[PlanVersion] = field.queryset
            field.queryset = for_sale.filter(published_at__isnull=False, retired_at__isnull=True)
        if db_field.name == "size":
            books = books_of(request, roles=self.commanders)
            field.queryset = SizeOption.objects.filter(
                version__plan__vendor__book_id__in=books,
                version__published_at__isnull=False,
                version__retired_at__isnull=True,
            ).select_related("version__plan")
        return field

    @admin.display(description="state")
    def state(self, subscription: Subscription) -> str:
        if subscription.cancelled_at is None:
            return "running" if subscription.starts_at <= timezone.now() else "to start"
        ends_at = subscriptions.runs_until(subscription=subscription)
        if ends_at is None:
            return "cancelled before it began"
        ended = "ended" if ends_at <= timezone.now() else "ends"
        return f"{ended} on {_day(ends_at, subscription)}"

    def save_model(self, request: HttpRequest, obj: Subscription, form: Any, change: bool) -> None:
        subscriptions.subscribe(
            customer_id=obj.customer_id,
            plan_version_id=obj.plan_version_id,
            size=None if obj.size is None else obj.size.code,
            seats=obj.seats,
            starts_at=obj.starts_at,
            idempotency_key=obj.pk,
            at=timezone.now(),
        )

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        subscription = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        return actions if subscription.cancelled_at is None else []

    @page_action(description="Cancel …", url_path="cancel", roles=COMMANDERS, icon="event_busy")
    def cancel(self, request: HttpRequest, subscription: Subscription) -> HttpResponse:
        """Ask, then cancel; both say until when it runs."""
        page = reverse("admin:billing_subscription_change", args=[subscription.pk])
        if request.method == "POST":
            cancelled = subscriptions.cancel(subscription_id=subscription.pk, at=timezone.now())
            self.log_change(request, subscription, "Cancelled.")
            messages.success(request, f"Cancelled: {_end(cancelled)}.")
            return redirect(page)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Cancel the subscription of {subscription.customer}?",
            "what_happens": f"If you cancel now, {_end(subscription)}; no further period starts."
            " What is left over follows the plan's terms.",
            "yes": "Cancel the subscription",
            "danger": True,
            "back": page,
        }
        return TemplateResponse(request, "admin/sure.html", context)


def _end(subscription: Subscription) -> str:
    """Until when it runs if it is cancelled now: to the end of the last period that is open."""
    ends_at = subscriptions.runs_until(subscription=subscription)
    if ends_at is None:
        return "the subscription never begins"
    return f"the subscription ends on {_day(ends_at, subscription)}"


def _day(instant: datetime, subscription: Subscription) -> str:
    return periods.date_text(instant, subscription.time_zone)
