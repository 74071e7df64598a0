"""The outbox and the inbox of Stripe, for those who run the installation. Read-only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from billing.models import StripeCall, StripeEvent
from config.admin import PlainAdmin, SuperuserOnly


class PostAdmin(SuperuserOnly):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(StripeCall)
class StripeCallAdmin(PostAdmin, PlainAdmin[StripeCall]):
    list_display = ("operation", "aggregate_id", "created_at", "tries", "done_at", "parked_at")
    list_filter = ("operation",)
    search_fields = ("aggregate_id", "stripe_id", "idempotency_key")
    ordering = ("-id",)
    actions = None
    show_full_result_count = False


@admin.register(StripeEvent)
class StripeEventAdmin(PostAdmin, PlainAdmin[StripeEvent]):
    list_display = ("type", "object_id", "received_at", "tries", "done_at", "parked_at")
    list_filter = ("type",)
    search_fields = ("event_id", "object_id")
    ordering = ("-id",)
    actions = None
    show_full_result_count = False
