"""The outbox and the inbox of Stripe, for those who run the installation: read-only, but for calls
that ended without success, which may be asked again. That may also those whose customer it is.
"""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils import timezone

from billing.errors import BillingError
from billing.models import StripeCall, StripeEvent
from billing.stripe import troubles
from config.admin import ADMIN, FINANCE, PlainAdmin, SuperuserOnly, books_of

COMMANDERS = frozenset({ADMIN, FINANCE})


class StandingFilter(admin.SimpleListFilter):
    """Those that nobody but a person brings further."""

    title = "needs a person"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() != "yes":
            return queryset
        return queryset.filter(pk__in=troubles.standing(at=timezone.now()).values("pk"))


class PostAdmin(SuperuserOnly):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(StripeCall)
class StripeCallAdmin(PostAdmin, PlainAdmin[StripeCall]):
    list_display = (
        *("operation", "customer", "created_at", "tries", "done_at", "refused_at", "parked_at"),
        "error_message",
    )
    list_filter = (StandingFilter, "operation")
    search_fields = ("aggregate_id", "stripe_id", "idempotency_key")
    ordering = ("-id",)
    list_per_page = 50
    actions = ("ask_again",)
    show_full_result_count = False

    @admin.display(description="for whom")
    def customer(self, call: StripeCall) -> str:
        return str(troubles.customer_of(call=call) or "-")

    @admin.action(description="Ask again")
    def ask_again(self, request: HttpRequest, chosen: QuerySet[StripeCall]) -> None:
        for call in chosen:
            _ask_again(request, call)

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.ask_again_view)
        name = "billing_stripecall_ask_again"
        return [path("<int:call_id>/ask-again/", view, name=name), *super().get_urls()]

    def ask_again_view(self, request: HttpRequest, call_id: int) -> HttpResponse:
        """The button beside a trouble on the first page."""
        call = get_object_or_404(StripeCall, pk=call_id)
        customer = troubles.customer_of(call=call)
        own = books_of(request, roles=COMMANDERS)
        if not (
            self.has_module_permission(request)
            or (customer is not None and customer.vendor.book_id in own)
        ):
            raise Http404
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        _ask_again(request, call)
        return redirect("admin:index")


@admin.register(StripeEvent)
class StripeEventAdmin(PostAdmin, PlainAdmin[StripeEvent]):
    list_display = ("type", "object_id", "received_at", "tries", "done_at", "parked_at")
    list_filter = ("type",)
    search_fields = ("event_id", "object_id")
    ordering = ("-id",)
    actions = None
    show_full_result_count = False


def _ask_again(request: HttpRequest, call: StripeCall) -> None:
    try:
        standing = troubles.ask_again(call_id=call.pk, at=timezone.now())
    except BillingError as refusal:
        messages.error(request, f"{call.operation}: {refusal}")
        return
    if standing.done_at is not None:
        messages.success(request, f"{call.operation} had been carried out after all.")
    elif standing.pk == call.pk:
        messages.info(request, f"{call.operation} still waits for its answer.")
    else:
        messages.success(
            request, f"{call.operation} is asked again, as attempt {standing.attempt}."
        )
