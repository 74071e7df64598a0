"""Plans, and their versions: drafted with the explanation beside the form, published, retired."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html

from billing import catalog, explain, plan_faults, terms
from billing.admin import changing
from billing.admin.plan_forms import PlanVersionForm, initial_of
from billing.admin.plan_panel import Panel, panel_of_draft, panel_of_version
from billing.admin.plan_prices import (
    AMOUNTS,
    PartsFormSet,
    PriceForm,
    SizeForm,
    TierForm,
    in_short,
    initial_prices,
    initial_sizes,
    initial_tiers,
)
from billing.admin.plan_sheet import sheet_context
from billing.errors import BillingError, NotConfirmed
from billing.models import OverageTier, Plan, PlanPrice, PlanVersion, SizeOption
from billing.terms import Price
from config.admin import (
    ADMIN,
    EVERYBODY,
    PRICING,
    BookAdmin,
    FactsInline,
    PartsInline,
    books_of,
    page_action,
    tokens_of_text,
    tokens_shown,
)
from ledger import catalog as ledger_catalog

EDITORS = frozenset({ADMIN, PRICING})


class VersionsInline(FactsInline[PlanVersion, Plan]):
    model = PlanVersion
    verbose_name_plural = "versions"
    fields = ("version", "published_at", "retired_at")
    readonly_fields = fields
    ordering = ("-number",)

    @admin.display(description="version")
    def version(self, version: PlanVersion) -> str:
        page = reverse("admin:billing_planversion_change", args=[version.pk])
        return format_html('<a class="rl-link" href="{}">Version {}</a>', page, version.number)


@admin.register(Plan)
class PlanAdmin(BookAdmin[Plan]):
    book_path = "vendor__book_id"
    editors = EDITORS
    list_display = ("name", "code", "for_sale")
    list_select_related = ("vendor",)
    search_fields = ("name", "code")
    ordering = ("name",)
    fields = ("vendor", "name", "code")
    fixed = ("vendor", "code")
    inlines = (VersionsInline,)
    actions_detail = ("draft_version",)
    purpose = (
        "What customers subscribe to. A plan is a name; what it grants and costs is told by its"
        " versions, which are drafted, published and then never change."
    )

    @admin.display(description="for sale")
    def for_sale(self, plan: Plan) -> str:
        latest = plan.versions.filter(published_at__isnull=False, retired_at__isnull=True)
        version = latest.order_by("-number").first()
        return "no published version yet" if version is None else f"version {version.number}"

    @page_action(description="Draft a new version", url_path="draft", roles=EDITORS, icon="add")
    def draft_version(self, request: HttpRequest, plan: Plan) -> HttpResponse:
        return redirect(f"{reverse('admin:billing_planversion_add')}?plan={plan.pk}")


def price_of_text(contents: str) -> str:
    """What a frozen version's page shows for a column of micros."""
    return tokens_of_text(contents)  # a millionth of money reads as a millionth of a token


class VersionPartsInline(PartsInline[Any, PlanVersion]):
    """Rows of a version; a new one starts from those of the version before."""

    formset = PartsFormSet

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A frozen row shows its column, not the form's field."""
        assert self.fields is not None
        if obj is None or self.has_change_permission(request, obj):
            return self.fields
        return ["currency" if field == "paid_in" else field for field in self.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None or self.has_change_permission(request, obj) else ("currency",)

    def get_extra(self, request: HttpRequest, obj: Any = None, **options: Any) -> int:
        """Room for the rows of the version before."""
        return 0 if obj else len(self.rows_before(request))

    def rows_before(self, request: HttpRequest) -> list[dict[str, Any]]:
        owner = self.admin_site._registry[PlanVersion]
        assert isinstance(owner, PlanVersionAdmin)
        before = owner.version_before(request)
        return [] if before is None else self.initial_of(terms.prices(version=before))

    def initial_of(self, prices: Sequence[Price]) -> list[dict[str, Any]]:
        raise NotImplementedError


class PricesInline(VersionPartsInline):
    model = PlanPrice
    form = PriceForm
    verbose_name_plural = "prices"
    fields = ("paid_in", *AMOUNTS)
    ordering = ("pk",)

    def get_extra(self, request: HttpRequest, obj: Any = None, **options: Any) -> int:
        """Nothing is sold without a price."""
        return 0 if obj else max(1, super().get_extra(request, obj, **options))

    def initial_of(self, prices: Sequence[Price]) -> list[dict[str, Any]]:
        return initial_prices(prices)


class SizesInline(VersionPartsInline):
    model = SizeOption
    form = SizeForm
    verbose_name_plural = "sizes, instead of an allotment of its own"
    fields = ("paid_in", "name", "code", "allotment_microtokens", "allotment_price")
    ordering = ("pk",)

    def initial_of(self, prices: Sequence[Price]) -> list[dict[str, Any]]:
        return initial_sizes(prices)


class TiersInline(VersionPartsInline):
    model = OverageTier
    form = TierForm
    verbose_name_plural = "overage prices"
    fields = ("paid_in", "up_to_microtokens", "micros_per_token")
    ordering = ("currency", "up_to_microtokens")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.readonly_preprocess_fields["micros_per_token"] = price_of_text

    def initial_of(self, prices: Sequence[Price]) -> list[dict[str, Any]]:
        return initial_tiers(prices)


@admin.register(PlanVersion)
class PlanVersionAdmin(BookAdmin[PlanVersion]):
    form = PlanVersionForm
    book_path = "plan__vendor__book_id"
    editors = EDITORS
    list_display = ("__str__", "term_months", "price_text", "state")
    list_select_related = ("plan__vendor",)
    ordering = ("plan__name", "-number")
    fixed = ("plan",)
    inlines = (PricesInline, SizesInline, TiersInline)
    actions_detail = ("publish", "sales_sheet", "retire", "draft_next", "move_customers")
    change_form_template = "admin/billing/planversion/change_form.html"
    purpose = (
        "The terms of a plan. Draft one and read beside the form what it will say to a buyer;"
        " publish it when it reads right. What customers have bought keeps its terms for ever."
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "plan",
                    "rate_card_id",
                    ("term_months", "allotment_microtokens"),
                    "grant_on_payment",
                )
            },
        ),
        ("What is left over", {"fields": ("rollover_percent", "grace_hours")}),
        (
            "What goes beyond",
            {
                "fields": (
                    "overage_policy",
                    ("overage_model", "overage_package_microtokens"),
                    ("overage_soft_cap_microtokens", "overage_cap_microtokens"),
                )
            },
        ),
        ("Telling people", {"fields": ("alert_thresholds", "dunning_policy")}),
        (
            "Given for free",
            {
                "fields": (
                    ("trial_days", "trial_microtokens"),
                    ("welcome_microtokens", "welcome_months"),
                )
            },
        ),
    )

    frozen_fieldsets = (
        (
            None,
            {
                "fields": (
                    *("plan", "state", "token", "rate_card", "term_months", "allotment"),
                    "grant_on_payment",
                )
            },
        ),
        ("What is left over", {"fields": ("rollover", "grace_text")}),
        (
            "What goes beyond",
            {"fields": ("overage_policy", "overage_model", "package", "soft_cap", "cap")},
        ),
        ("Telling people", {"fields": ("alert_thresholds", "dunning_policy")}),
        ("Given for free", {"fields": ("trial_text", "gift_text")}),
    )
    frozen_fields = (
        *(
            "state",
            "token",
            "rate_card",
            "allotment",
            "rollover",
            "grace_text",
            "package",
            "soft_cap",
            "cap",
        ),
        *("trial_text", "gift_text"),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            return self.fieldsets
        return self.frozen_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *self.frozen_fields)

    @admin.display(description="one token")
    def token(self, version: PlanVersion) -> str:
        return ledger_catalog.unit(unit_id=version.unit_id).sentence

    @admin.display(description="rate card")
    def rate_card(self, version: PlanVersion) -> str:
        cards = ledger_catalog.rate_cards(book_id=version.plan.vendor.book_id)
        return next(card.name for card in cards if card.id == version.rate_card_id)

    @admin.display(description="allotment")
    def allotment(self, version: PlanVersion) -> str:
        return explain.tokens(version.allotment_microtokens)

    @admin.display(description="rollover share")
    def rollover(self, version: PlanVersion) -> str:
        return explain.percent(version.rollover_basis_points)

    @admin.display(description="grace")
    def grace_text(self, version: PlanVersion) -> str:
        return f"{int(version.grace.total_seconds()) // 3600} hours"

    @admin.display(description="package")
    def package(self, version: PlanVersion) -> str:
        return tokens_shown(version.overage_package_microtokens)

    @admin.display(description="soft cap of overage")
    def soft_cap(self, version: PlanVersion) -> str:
        return tokens_shown(version.overage_soft_cap_microtokens)

    @admin.display(description="hard cap of overage")
    def cap(self, version: PlanVersion) -> str:
        return tokens_shown(version.overage_cap_microtokens)

    @admin.display(description="trial")
    def trial_text(self, version: PlanVersion) -> str:
        granted = explain.tokens(version.trial_microtokens)
        return f"{version.trial_days} days, {granted}" if version.trial_days else "none"

    @admin.display(description="welcome gift")
    def gift_text(self, version: PlanVersion) -> str:
        granted = explain.tokens(version.welcome_microtokens)
        months = f"valid for {version.welcome_months} months"
        return f"{granted}, {months}" if version.welcome_microtokens else "none"

    @admin.display(description="price")
    def price_text(self, version: PlanVersion) -> str:
        return in_short(version)

    @admin.display(description="state", ordering="published_at")
    def state(self, version: PlanVersion) -> str:
        if version.retired_at is not None:
            return "retired"
        return "draft" if version.published_at is None else "for sale"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        frozen = obj is not None and obj.published_at is not None
        return not frozen and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is not None and self.has_change_permission(request, obj)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> Any:
        """The form of a frozen version exists too, so that its labels are the same."""
        form = super().get_form(request, obj, change, **options)
        return type(
            "OwnPlanVersionForm", (form,), {"books": books_of(request, roles=self.choosers())}
        )

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        version = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        return [action for action in actions if action.path in self._next_steps(version)]

    def _next_steps(self, version: PlanVersion) -> tuple[str, ...]:
        if version.published_at is None:
            return ("publish", "sheet")
        return ("sheet", "draft", "move", *(() if version.retired_at is not None else ("retire",)))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A new version starts from the terms of the one before."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        before = self.version_before(request)
        return initial if before is None else initial_of(before) | initial

    def get_formset_kwargs(
        self, request: HttpRequest, obj: Any, inline: Any, prefix: str
    ) -> dict[str, Any]:
        options = super().get_formset_kwargs(request, obj, inline, prefix)
        if not obj.pk and request.method != "POST":
            assert isinstance(inline, VersionPartsInline)
            options["initial"] = inline.rows_before(request)
        return options

    def _create_formsets(self, request: HttpRequest, obj: Any, change: bool) -> Any:
        formsets, inlines = super()._create_formsets(request, obj, change)  # type: ignore[misc]  # Django's
        for formset in formsets:
            formset.beside = formsets
        return formsets, inlines

    def version_before(self, request: HttpRequest) -> PlanVersion | None:
        plan = request.GET.get("plan", "")
        if not plan.isdecimal():
            return None
        return self.get_queryset(request).filter(plan_id=int(plan)).order_by("-number").first()

    def save_model(self, request: HttpRequest, obj: PlanVersion, form: Any, change: bool) -> None:
        if not change:
            obj.number = catalog.next_number(plan_id=obj.plan_id)
        obj.save()

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("explain/", wrap(self.explain), name="billing_planversion_explain"),
            path("<int:pk>/explain/", wrap(self.explain), name="billing_planversion_explain"),
            *super().get_urls(),
        ]

    def explain(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """The panel beside the form, for what is typed so far. Writes nothing."""
        version = None if pk is None else self.get_object(request, str(pk))
        if request.method != "POST" or not self.may(request, EDITORS, version):
            raise Http404
        form = self.get_form(request, version, change=version is not None)(
            request.POST, instance=version
        )
        form.is_valid()
        formsets, _ = self._create_formsets(request, form.instance, change=version is not None)
        return self._panel(request, panel_of_draft(form=form, formsets=formsets, at=timezone.now()))

    def _panel(self, request: HttpRequest, panel: Panel) -> HttpResponse:
        template = "admin/billing/planversion/explanation.html"
        return TemplateResponse(request, template, {"panel": panel})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *given: Any, **options: Any
    ) -> Any:
        version = options.get("obj")
        if version is not None:
            context["panel"] = panel_of_version(version, at=timezone.now())
        if self.has_change_permission(request, version):
            given_pk = [] if version is None else [version.pk]
            context["explain_url"] = reverse("admin:billing_planversion_explain", args=given_pk)
        return super().render_change_form(request, context, *given, **options)

    @page_action(description="Publish …", url_path="publish", roles=EDITORS, icon="verified")
    def publish(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        """Show what buyers will read, ask, then publish."""
        page = reverse("admin:billing_planversion_change", args=[version.pk])
        if request.method != "POST":
            context = {
                "title": f"Publish {version}?",
                "change_page": page,
                "panel": panel_of_version(version, at=timezone.now()),
                "what_happens": "Customers can then be put on it. A published version never"
                " changes: a new price is a new version.",
                "yes": "Publish",
            }
            return self._sure(request, context, page)
        try:
            catalog.publish(
                version_id=version.pk,
                confirmed=request.POST.getlist("confirmed"),
                at=timezone.now(),
            )
        except NotConfirmed:
            messages.error(request, "Not published: read what is odd about it, and confirm it.")
            return redirect(request.path)
        except BillingError as refusal:
            messages.error(request, f"Not published: {refusal}.")
        else:
            self.log_change(request, version, "Published.")
            messages.success(request, f"{version} is published.")
        return redirect(page)

    @page_action(description="Sales sheet", url_path="sheet", roles=EVERYBODY, icon="description")
    def sales_sheet(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        """What whoever sells the plan shows and says; to be printed."""
        page = reverse("admin:billing_planversion_change", args=[version.pk])
        if plan_faults.found(version=version, prices=terms.prices(version=version)):
            messages.error(request, "The draft has to be whole before there is a sheet of it.")
            return redirect(page)
        shared = self.admin_site.each_context(request)
        context = {**shared, "back": page, **sheet_context(version, request.GET)}
        return TemplateResponse(request, "admin/billing/planversion/sheet.html", context)

    @page_action(description="Retire …", url_path="retire", roles=EDITORS, icon="inventory_2")
    def retire(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        """Ask, then retire."""
        page = reverse("admin:billing_planversion_change", args=[version.pk])
        if request.method != "POST":
            context = {
                "title": f"Retire {version}?",
                "what_happens": "Nobody can be put on it from then on."
                " Customers who have it keep it.",
                "yes": "Retire",
            }
            return self._sure(request, context, page)
        catalog.retire(version_id=version.pk, at=timezone.now())
        self.log_change(request, version, "Retired.")
        messages.success(request, f"{version} is retired.")
        return redirect(page)

    @page_action(description="Draft a new version", url_path="draft", roles=EDITORS, icon="add")
    def draft_next(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        return redirect(f"{reverse('admin:billing_planversion_add')}?plan={version.plan_id}")

    @page_action(
        description="Move its customers …", url_path="move", roles=EDITORS, icon="move_group"
    )
    def move_customers(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        return changing.move(self, request, version)

    def _sure(self, request: HttpRequest, context: dict[str, Any], back: str) -> HttpResponse:
        shared = self.admin_site.each_context(request)
        context = {**shared, "opts": self.opts, "back": back, **context}
        return TemplateResponse(request, "admin/sure.html", context)
