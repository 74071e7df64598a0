"""Top-up packs: drafted, published, retired."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from billing import explain, money, packs
from billing.admin import fields
from billing.admin.plan_prices import PartForm, PartsFormSet, above
from billing.errors import BillingError
from billing.models import PackPrice, Plan, TopUpPack
from billing.packs import PriceFrom
from config.admin import (
    ADMIN,
    PRICING,
    BookAdmin,
    OneBookForm,
    PartsInline,
    add_faults,
    books_of,
    page_action,
)
from ledger.errors import Fault

EDITORS = frozenset({ADMIN, PRICING})


class PackForm(OneBookForm[TopUpPack]):
    checks_in_words = True

    class Meta:
        model = TopUpPack
        fields = (
            "vendor",
            "name",
            "code",
            "microtokens",
            "bonus_microtokens",
            "validity_months",
            "season_from_on",
            "season_until_on",
            "plans",
        )
        labels: ClassVar = {"validity_months": "Valid for (months)"}

    def clean_bonus_microtokens(self) -> int:
        return self.cleaned_data["bonus_microtokens"] or 0

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors:
            plans = list(self.cleaned_data["plans"])
            found = packs.found(pack=self.instance, prices=(), plans=plans)
            add_faults(self, [fault for fault in found if not fault.field.startswith("prices")])


class PackPriceForm(PartForm[PackPrice]):
    paid_in = fields.currency(label="Currency")
    price = fields.AmountField(label="Price of one pack")

    class Meta:
        model = PackPrice
        fields = ("from_quantity", "price")
        labels: ClassVar = {"from_quantity": "From (packs at once)"}

    def clean(self) -> dict[str, Any]:
        return fields.with_money(super().clean() or {}, "price")


class PackPricesFormSet(PartsFormSet):
    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        typed = [
            PriceFrom(
                price=form.cleaned_data["price"], from_quantity=form.cleaned_data["from_quantity"]
            )
            for form in self.kept()
        ]
        for fault in packs.faults_of_prices(prices=typed):
            self._say(fault)

    def _say(self, fault: Fault) -> None:
        """A fault's field is a path: prices, or prices.EUR.3.price."""
        if fault.field == "prices":
            above(self, fault.message)
            return
        _, currency, quantity, field = fault.field.split(".")
        row = [
            form
            for form in self.kept()
            if form.cleaned_data["paid_in"] == currency
            and form.cleaned_data["from_quantity"] == int(quantity)
        ][-1]
        add_faults(row, [Fault(field=field, rule=fault.rule, message=fault.message)])


class PackPricesInline(PartsInline[PackPrice, TopUpPack]):
    model = PackPrice
    form = PackPriceForm
    formset = PackPricesFormSet
    fields = ("paid_in", "from_quantity", "price")
    ordering = ("currency", "from_quantity")

    def get_extra(self, request: HttpRequest, obj: Any = None, **options: Any) -> int:
        """Nothing is sold without a price."""
        return 0 if obj else 1

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            return self.fields
        return ("currency", "from_quantity", "price")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None or self.has_change_permission(request, obj) else ("currency",)


@admin.register(TopUpPack)
class TopUpPackAdmin(BookAdmin[TopUpPack]):
    form = PackForm
    book_path = "vendor__book_id"
    editors = EDITORS
    inlines = (PackPricesInline,)
    list_display = ("name", "tokens", "price_text", "validity", "state")
    list_select_related = ("vendor",)
    ordering = ("vendor", "name")
    fieldsets = (
        (None, {"fields": ("vendor", "name", "code")}),
        (
            "What it brings",
            {"fields": (("microtokens", "bonus_microtokens"), "validity_months")},
        ),
        (
            "Who may buy it, and when",
            {"fields": (("season_from_on", "season_until_on"), "plans")},
        ),
    )
    frozen_fields = ("said", "state")
    fixed = ("vendor", "code")
    actions_detail = ("publish", "retire")
    purpose = (
        "Tokens that customers buy beside their plan, in their portal. A pack is for sale once it"
        " is published, in each currency that it has a price in; tokens bought live as long as the"
        " pack says."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[TopUpPack]:
        return super().get_queryset(request).prefetch_related("prices")

    def get_fieldsets(self, request: HttpRequest, obj: TopUpPack | None = None) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            return self.fieldsets
        return ((None, {"fields": ("vendor", "name", "code", *self.frozen_fields)}),)

    def get_readonly_fields(self, request: HttpRequest, obj: TopUpPack | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *self.frozen_fields)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Plans of one's own vendors."""
        books = books_of(request, roles=self.choosers())
        options["queryset"] = Plan.objects.filter(vendor__book_id__in=books).order_by("name")
        return super().formfield_for_manytomany(db_field, request, **options)

    @admin.display(description="what buyers read")
    def said(self, pack: TopUpPack) -> str:
        return " ".join(_sentences(pack))

    @admin.display(description="tokens", ordering="microtokens")
    def tokens(self, pack: TopUpPack) -> str:
        bonus = f" + {explain.tokens(pack.bonus_microtokens)}" if pack.bonus_microtokens else ""
        return f"{explain.tokens(pack.microtokens)}{bonus}"

    @admin.display(description="price")
    def price_text(self, pack: TopUpPack) -> str:
        single = [row for row in packs.prices(pack=pack) if row.from_quantity == 1]
        return " · ".join(money.text(row.price) for row in single) or "none yet"

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
                f"{' '.join(_sentences(pack))} A published pack never changes; it can be retired."
            )
            return self._sure(request, f"Publish “{pack}”?", sentence, "Publish", page)
        try:
            packs.publish(pack_id=pack.pk, at=timezone.now())
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
        packs.retire(pack_id=pack.pk, at=timezone.now())
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


def _sentences(pack: TopUpPack) -> list[str]:
    plans = list(pack.plans.all())
    return packs.sentences(pack=pack, prices=packs.prices(pack=pack), plans=plans)
