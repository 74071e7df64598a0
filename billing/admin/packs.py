"""Top-up packs: drafted, published, retired."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from billing import catalog, explain, money
from billing.admin import fields
from billing.errors import BillingError
from billing.models import TopUpPack
from config.admin import ADMIN, PRICING, BookAdmin, OneBookForm, add_faults, page_action

EDITORS = frozenset({ADMIN, PRICING})


class PackForm(OneBookForm[TopUpPack]):
    checks_in_words = True

    paid_in = fields.currency(label="Currency")
    price = fields.AmountField()

    class Meta:
        model = TopUpPack
        fields = ("vendor", "name", "code", "microtokens", "price", "validity_months")
        labels: ClassVar = {"validity_months": "Valid for (months)"}

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        if not self.instance._state.adding and "paid_in" in self.fields:
            self.initial["paid_in"] = self.instance.currency

    def clean(self) -> dict[str, Any]:
        return fields.with_money(super().clean() or {}, "price")

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors:
            add_faults(self, catalog.pack_faults(pack=self.instance))


@admin.register(TopUpPack)
class TopUpPackAdmin(BookAdmin[TopUpPack]):
    form = PackForm
    book_path = "vendor__book_id"
    editors = EDITORS
    list_display = ("name", "tokens", "price_text", "validity", "state")
    list_select_related = ("vendor",)
    ordering = ("vendor", "price")
    fields = ("vendor", "name", "code", "microtokens", ("price", "paid_in"), "validity_months")
    fixed = ("vendor", "code")
    actions_detail = ("publish", "retire")
    purpose = (
        "Tokens that customers buy beside their plan, in their portal. A pack is for sale once it"
        " is published, in its own currency; tokens bought live as long as the pack says."
    )

    def get_fields(self, request: HttpRequest, obj: TopUpPack | None = None) -> Any:
        if self.has_change_permission(request, obj):
            return self.fields
        return ("vendor", "name", "code", "microtokens", "price_text", "validity_months", "state")

    def get_readonly_fields(self, request: HttpRequest, obj: TopUpPack | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), "price_text", "state")

    @admin.display(description="tokens", ordering="microtokens")
    def tokens(self, pack: TopUpPack) -> str:
        return explain.tokens(pack.microtokens)

    @admin.display(description="price", ordering="price")
    def price_text(self, pack: TopUpPack) -> str:
        return money.text(pack.price)

    @admin.display(description="valid for")
    def validity(self, pack: TopUpPack) -> str:
        return f"{pack.validity_months} months"

    @admin.display(description="state", ordering="published_at")
    def state(self, pack: TopUpPack) -> str:
        if pack.retired_at is not None:
            return "retired"
        return "draft" if pack.published_at is None else "for sale"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        frozen = obj is not None and obj.published_at is not None
        return not frozen and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is not None and self.has_change_permission(request, obj)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        pack = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        return [action for action in actions if action.path == self._next_step(pack)]

    def _next_step(self, pack: TopUpPack) -> str | None:
        if pack.published_at is None:
            return "publish"
        return "retire" if pack.retired_at is None else None

    @page_action(description="Publish …", url_path="publish", roles=EDITORS, icon="verified")
    def publish(self, request: HttpRequest, pack: TopUpPack) -> HttpResponse:
        """Ask, then publish."""
        page = reverse("admin:billing_topuppack_change", args=[pack.pk])
        if request.method != "POST":
            sentence = (
                f"Customers who pay in {pack.currency} can then buy"
                f" {explain.tokens(pack.microtokens)} for {money.text(pack.price)}, valid for"
                f" {pack.validity_months} months. A published pack never changes;"
                " it can be retired."
            )
            return self._sure(request, f"Publish “{pack}”?", sentence, "Publish", page)
        try:
            catalog.publish_pack(pack_id=pack.pk, at=timezone.now())
        except BillingError as refusal:
            messages.error(request, f"Not published: {refusal}.")
        else:
            self.log_change(request, pack, "Published.")
            messages.success(request, f"“{pack}” is for sale.")
        return redirect(page)

    @page_action(description="Retire …", url_path="retire", roles=EDITORS, icon="inventory_2")
    def retire(self, request: HttpRequest, pack: TopUpPack) -> HttpResponse:
        """Ask, then retire."""
        page = reverse("admin:billing_topuppack_change", args=[pack.pk])
        if request.method != "POST":
            sentence = "Nobody can buy it from then on. Tokens that were bought stay."
            return self._sure(request, f"Retire “{pack}”?", sentence, "Retire", page)
        catalog.retire_pack(pack_id=pack.pk, at=timezone.now())
        self.log_change(request, pack, "Retired.")
        messages.success(request, f"“{pack}” is retired.")
        return redirect(page)

    def _sure(
        self, request: HttpRequest, title: str, what_happens: str, yes: str, back: str
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "what_happens": what_happens,
            "yes": yes,
            "back": back,
        }
        return TemplateResponse(request, "admin/sure.html", context)
