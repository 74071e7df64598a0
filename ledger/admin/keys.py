"""API keys. Adding one issues it, and shows it once."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from config.admin import ADMIN, FactAdmin, page_action
from ledger import access
from ledger.models import Account, ApiKey, Engine, Rate

COMMANDERS = frozenset({ADMIN})


@admin.register(ApiKey)
class ApiKeyAdmin(FactAdmin[ApiKey]):
    viewers = COMMANDERS
    commanders = COMMANDERS
    list_display = ("name", "starts_with", "created_at", "state")
    ordering = ("-created_at",)
    actions_detail = ("revoke",)
    purpose = (
        "A key lets your software send runs. Issue one for each system that sends, so that you can"
        " end one without the others. A key is shown once, when it is issued."
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("book", "name")
        return ("name", "starts_with", "created_at", "revoked_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("starts_with",)

    @admin.display(description="starts with")
    def starts_with(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        if key.revoked_at is None:
            return "active"
        return f"revoked on {timezone.localdate(key.revoked_at):%d %b %Y}"

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        issued = access.issue_api_key(book_id=obj.book_id, name=obj.name, at=timezone.now())
        obj.pk = issued.key_id
        request.secret = issued.secret  # type: ignore[attr-defined]  # read once, below

    def response_add(self, request: HttpRequest, obj: ApiKey, *_: Any) -> HttpResponse:
        """The one page that ever shows the key: neither a redirect nor a message may carry it."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Key “{obj.name}”",
            "secret": request.secret,  # type: ignore[attr-defined]  # set by save_model
            **_sample(obj.book_id),
            "send": request.build_absolute_uri("/api/v1/runs"),
            "list": reverse("admin:ledger_apikey_changelist"),
        }
        response = TemplateResponse(request, "admin/ledger/apikey/issued.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        key = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        return actions if key.revoked_at is None else []

    @page_action(description="Revoke …", url_path="revoke", roles=COMMANDERS, icon="block")
    def revoke(self, request: HttpRequest, key: ApiKey) -> HttpResponse:
        """Ask, then revoke."""
        page = reverse("admin:ledger_apikey_change", args=[key.pk])
        if request.method == "POST":
            access.revoke_api_key(key_id=key.pk, at=timezone.now())
            self.log_change(request, key, "Revoked.")
            messages.success(request, f"The key “{key.name}” is revoked. Nothing can use it now.")
            return redirect(page)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Revoke the key “{key.name}”?",
            "what_happens": "Whatever sends runs with it is refused from then on."
            " This cannot be undone; a new key can be issued.",
            "yes": "Revoke it",
            "danger": True,
            "back": page,
        }
        return TemplateResponse(request, "admin/sure.html", context)


def _sample(book_id: int) -> dict[str, str]:
    """Codes of the book for a first run; what is missing is named in capitals, to be filled in."""
    account = Account.objects.filter(book_id=book_id).order_by("id").first()
    rate = (
        Rate.objects.filter(
            version__rate_card__book_id=book_id, version__published_at__isnull=False
        )
        .select_related("meter", "engine")
        .order_by("id")
        .first()
    )
    engine = Engine.objects.filter(book_id=book_id).order_by("id").first()
    if rate is not None and rate.engine is not None:
        engine = rate.engine
    return {
        "account": "ACCOUNT-CODE" if account is None else account.code,
        "meter": "METER-CODE" if rate is None else rate.meter.code,
        "engine": "ENGINE-CODE" if engine is None else engine.code,
    }
