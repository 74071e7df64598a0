"""Subscriptions. Adding one is the command: the customer is on the plan from its start on."""

import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from billing import changes, periods, subscriptions
from billing.admin import changing
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
    list_display = ("customer", "plan_version", "begins_at", "state")
    list_select_related = ("customer__vendor", "plan_version__plan")
    search_fields = ("customer__name",)
    ordering = ("-begins_at",)
    inlines = (PeriodsInline,)
    actions_detail = ("change_plan", "withdraw", "cancel")
    purpose = (
        "A customer on a version of a plan. Adding one grants the first period's tokens at its"
        " start and builds its first invoice."
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("id", "customer", "plan_version", ("size", "seats"), "starts_at")
        bought = ("customer", "plan_version", *(("size",) if obj.size else ()))
        seats = ("seats",) if obj.seats else ()
        return (*bought, *seats, "begins_at", "time_zone", "subscribed_at", "state")

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
        now = timezone.now()
        if subscription.cancelled_at is None:
            return self._going_on(subscription, now)
        last = subscriptions.latest(subscription_id=subscription.pk)
        if last != subscription:
            return f"goes on as {last.plan_version} from {_day(last.begins_at, last)}"
        ends_at = subscriptions.runs_until(subscription=subscription)
        begun = subscription.trial_starts_at is not None or subscription.periods.exists()
        if ends_at is None or not begun:
            return "cancelled before it began"
        ended = "ended" if ends_at <= now else "ends"
        return f"{ended} on {_day(ends_at, subscription)}"

    def _going_on(self, subscription: Subscription, now: datetime) -> str:
        if subscription.begins_at <= now or hasattr(subscription, "change"):
            return "running"
        trial_starts_at = subscription.trial_starts_at
        if trial_starts_at is not None and trial_starts_at <= now:
            return f"in trial until {_day(subscription.begins_at, subscription)}"
        return f"to start on {_day(subscription.begins_at, subscription)}"

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
        """What can be done to it, or to whatever continues it."""
        subscription = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        possible = self._possible(subscription)
        return [one for one in actions if one.path in possible]

    def _possible(self, subscription: Subscription) -> set[str]:
        last = subscriptions.latest(subscription_id=subscription.pk)
        if last.cancelled_at is not None:
            ends_at = subscriptions.runs_until(subscription=last)
            return {"cancel"} if ends_at is not None and ends_at > timezone.now() else set()
        waits = changes.pending(subscription=subscription, at=timezone.now())
        return {"change-plan", "cancel", *(() if waits is None else ("withdraw",))}

    @page_action(
        description="Change the plan …", url_path="change-plan", roles=COMMANDERS, icon="swap_horiz"
    )
    def change_plan(self, request: HttpRequest, subscription: Subscription) -> HttpResponse:
        return changing.change(self, request, subscription)

    @page_action(
        description="Withdraw the change …", url_path="withdraw", roles=COMMANDERS, icon="undo"
    )
    def withdraw(self, request: HttpRequest, subscription: Subscription) -> HttpResponse:
        return changing.withdraw(self, request, subscription)

    @page_action(description="Cancel …", url_path="cancel", roles=COMMANDERS, icon="event_busy")
    def cancel(self, request: HttpRequest, subscription: Subscription) -> HttpResponse:
        return changing.cancel(self, request, subscription)


def _day(instant: datetime, subscription: Subscription) -> str:
    return periods.date_text(instant, subscription.time_zone)
