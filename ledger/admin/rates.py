"""Rate cards: what work costs in tokens. A version is drafted, then published and frozen.

A version replaces the one before as a whole: what it has no rate for has no price from then on. So
a draft starts from the rates that hold, and whoever publishes it reads which of them it drops.
"""

from datetime import datetime
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin, messages
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html

from config.admin import (
    ADMIN,
    PRICING,
    BookAdmin,
    FactsInline,
    OneBookForm,
    PartsInline,
    books_of,
    page_action,
    tokens_shown,
)
from ledger import catalog, parking
from ledger.admin.words import WordAdmin
from ledger.errors import LedgerError
from ledger.models import Rate, RateCard, RateCardVersion
from ledger.units import QUANTITY_MAX, RUN_MICROTOKENS_MAX

EDITORS = frozenset({ADMIN, PRICING})
RATE_FIELDS: Final = (
    *("meter", "engine", "workflow", "microtokens"),
    *("per_quantity", "block_quantity", "minimum_microtokens"),
)


def in_force_at(at: datetime, *, rate_card_id: int) -> RateCardVersion | None:
    """The version whose rates hold for what happens at `at`."""
    published = RateCardVersion.objects.filter(
        rate_card_id=rate_card_id, published_at__isnull=False, effective_at__lte=at
    )
    return published.order_by("-effective_at", "-published_at", "-id").first()


class VersionsInline(FactsInline[RateCardVersion, RateCard]):
    model = RateCardVersion
    verbose_name_plural = "versions"
    fields = ("version", "effective_at", "state")
    readonly_fields = fields
    ordering = ("-number",)

    @admin.display(description="version")
    def version(self, version: RateCardVersion) -> str:
        page = reverse("admin:ledger_ratecardversion_change", args=[version.pk])
        return format_html('<a class="rl-link" href="{}">Version {}</a>', page, version.number)

    @admin.display(description="state")
    def state(self, version: RateCardVersion) -> str:
        if version.published_at is None:
            return "draft"
        in_force = in_force_at(timezone.now(), rate_card_id=version.rate_card_id) == version
        published = f"published on {timezone.localdate(version.published_at):%d %b %Y}"
        return f"in force, {published}" if in_force else published


@admin.register(RateCard)
class RateCardAdmin(WordAdmin[RateCard]):
    list_display = ("name", "unit", "in_force")
    list_select_related = ("unit",)
    fields = ("book", "name", "code", "unit")
    fixed = ("book", "code", "unit")
    inlines = (VersionsInline,)
    actions_detail = ("draft_version",)
    change_form_template = "admin/ledger/ratecard/change_form.html"
    purpose = (
        "What work costs in tokens. A card holds versions, each from a date on; a published"
        " version never changes, so a new price is a new version."
    )

    @admin.display(description="in force")
    def in_force(self, card: RateCard) -> str:
        version = in_force_at(timezone.now(), rate_card_id=card.pk)
        return "no published version yet" if version is None else f"version {version.number}"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *given: Any, **options: Any
    ) -> Any:
        card: RateCard | None = options["obj"]
        if card is not None:
            all_waits = parking.waits(book_ids=[card.book_id])
            waits = [wait for wait in all_waits if wait.rate_card_id == card.pk]
            context["waits"] = waits
            context["price_from"] = min((wait.earliest_at for wait in waits), default=None)
            context["may_draft"] = self.may(request, EDITORS, card)
        return super().render_change_form(request, context, *given, **options)

    @page_action(description="Draft a new version", url_path="draft", roles=EDITORS, icon="add")
    def draft_version(self, request: HttpRequest, card: RateCard) -> HttpResponse:
        add = reverse("admin:ledger_ratecardversion_add")
        return redirect(f"{add}?rate_card={card.pk}")


class RateForm(OneBookForm[Rate]):
    class Meta:
        model = Rate
        fields = RATE_FIELDS
        labels: ClassVar = {
            "microtokens": "tokens",
            "per_quantity": "per",
            "block_quantity": "rounded up to blocks of",
            "minimum_microtokens": "minimum per run",
        }
        help_texts: ClassVar = {"engine": "", "workflow": "", "block_quantity": ""}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in ("microtokens", "minimum_microtokens"):
            if (cleaned.get(name) or 0) > RUN_MICROTOKENS_MAX:
                most = tokens_shown(RUN_MICROTOKENS_MAX)
                self.add_error(name, f"A run costs at most {most} tokens.")
        for name in ("per_quantity", "block_quantity"):
            if (cleaned.get(name) or 0) > QUANTITY_MAX:
                self.add_error(name, f"At most {QUANTITY_MAX:,}.")
        return cleaned


class RatesFormSet(BaseInlineFormSet[Rate, RateCardVersion, RateForm]):
    """The rates of a version; all of the book of its card."""

    def clean(self) -> None:
        super().clean()
        if self.instance.rate_card_id is None:
            return
        book_id = self.instance.rate_card.book_id
        for form in self.forms:
            for name in ("meter", "engine"):
                chosen = getattr(form, "cleaned_data", {}).get(name)
                if chosen is not None and chosen.book_id != book_id:
                    form.add_error(name, "It belongs to another vendor than the rate card.")


class RatesInline(PartsInline[Rate, RateCardVersion]):
    model = Rate
    form = RateForm
    formset = RatesFormSet
    min_num = 1
    verbose_name_plural = "rates"

    def get_min_num(self, request: HttpRequest, obj: Any = None, **options: Any) -> int:
        return 1 if obj is None else 0

    def get_extra(self, request: HttpRequest, obj: Any = None, **options: Any) -> int:
        """Room for the rates that a new version starts from, beside the one there always is."""
        return 0 if obj else max(0, len(rates_to_start_from(request)) - 1)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **options)
        if db_field.name in ("meter", "engine") and field is not None:
            # Adding one here would leave the page that is being filled in.
            for able in ("can_add_related", "can_change_related", "can_view_related"):
                setattr(field.widget, able, False)
        if db_field.name == "engine" and isinstance(field, forms.ModelChoiceField):
            field.empty_label = "any engine"
        if db_field.name == "workflow":
            field.widget.attrs["placeholder"] = "any workflow"
        return field


@admin.register(RateCardVersion)
class RateCardVersionAdmin(BookAdmin[RateCardVersion]):
    book_path = "rate_card__book_id"
    editors = EDITORS
    list_display = ("rate_card", "number", "effective_at", "state")
    list_select_related = ("rate_card__book",)
    list_filter = ("rate_card",)
    ordering = ("rate_card__name", "-number")
    fields = ("rate_card", "effective_at")
    fixed = ("rate_card",)
    inlines = (RatesInline,)
    actions_detail = ("publish",)
    purpose = (
        "A version says from when its rates hold. Draft it, add its rates, publish it: from then"
        " on nobody can change it."
    )

    @admin.display(description="state", ordering="published_at")
    def state(self, version: RateCardVersion) -> str:
        if version.published_at is None:
            return "draft"
        return f"published on {timezone.localdate(version.published_at):%d %b %Y}"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        frozen = obj is not None and obj.published_at is not None
        return not frozen and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is not None and self.has_change_permission(request, obj)

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Choices of a filter would name other vendors' cards to those who have several."""
        return ()

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        version = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        return actions if self.has_change_permission(request, version) else []

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **options)
        if db_field.name == "effective_at":
            field.help_text = (
                "In UTC. What happens from this instant on costs what these rates say."
            )
        return field

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        return initial | {"effective_at": _instant(request.GET.get("effective_at", ""))}

    def get_formset_kwargs(
        self, request: HttpRequest, obj: Any, inline: Any, prefix: str
    ) -> dict[str, Any]:
        options = super().get_formset_kwargs(request, obj, inline, prefix)
        if not obj.pk and request.method != "POST":
            options["initial"] = rates_to_start_from(request)
        return options

    def save_model(
        self, request: HttpRequest, obj: RateCardVersion, form: Any, change: bool
    ) -> None:
        if not change:
            obj.number = catalog.next_version_number(rate_card_id=obj.rate_card_id)
        super().save_model(request, obj, form, change)

    @page_action(description="Publish …", url_path="publish", roles=EDITORS, icon="verified")
    def publish(self, request: HttpRequest, version: RateCardVersion) -> HttpResponse:
        """Ask, then publish."""
        page = reverse("admin:ledger_ratecardversion_change", args=[version.pk])
        if request.method != "POST":
            return self._confirmation(request, version, page)
        try:
            catalog.publish_version(version_id=version.pk, at=timezone.now())
        except LedgerError as refusal:
            messages.error(request, f"Not published: {refusal}.")
        else:
            self.log_change(request, version, "Published.")
            messages.success(request, f"{version} is published.")
        return redirect(page)

    def _confirmation(
        self, request: HttpRequest, version: RateCardVersion, page: str
    ) -> HttpResponse:
        rates = version.rates.select_related("meter", "engine")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Publish {version}?",
            "version": version,
            "back": page,
            "sentences": [rate_sentence(rate) for rate in rates],
            "dropped": [rate_sentence(rate) for rate in dropped_by(version)],
        }
        return TemplateResponse(request, "admin/ledger/ratecardversion/publish.html", context)


def rates_to_start_from(request: HttpRequest) -> list[dict[str, Any]]:
    """What a new version of the card that the address names begins with: the rates that hold then.

    Only of a card of one's own; on a form that comes back, everything is in it already.
    """
    card = request.GET.get("rate_card", "")
    own = RateCard.objects.filter(book_id__in=books_of(request, roles=EDITORS))
    if request.method == "POST" or not card.isdecimal() or not own.filter(pk=int(card)).exists():
        return []
    at = _instant(request.GET.get("effective_at", "")) or timezone.now()
    before = in_force_at(at, rate_card_id=int(card))
    rates = () if before is None else before.rates.select_related("meter", "engine").order_by("id")
    return [{name: getattr(rate, name) for name in RATE_FIELDS} for rate in rates]


def dropped_by(version: RateCardVersion) -> list[Rate]:
    """Rates that hold when this version comes into force, and that it has none in place of."""
    before = in_force_at(version.effective_at, rate_card_id=version.rate_card_id)
    if before is None:
        return []
    kept = set(version.rates.values_list("meter_id", "engine_id", "workflow"))
    return [
        rate
        for rate in before.rates.select_related("meter", "engine").order_by("id")
        if (rate.meter_id, rate.engine_id, rate.workflow) not in kept
    ]


def _instant(text: str) -> datetime | None:
    """An instant of an address; none if it is not one."""
    try:
        instant = parse_datetime(text)
    except ValueError:
        return None
    return None if instant is None or timezone.is_naive(instant) else instant


def rate_sentence(rate: Rate) -> str:
    """1 token per 1,000 rows on GPT-5, at least 2 tokens a run."""
    tokens = tokens_shown(rate.microtokens)
    words = "token" if tokens == "1" else "tokens"
    what = f"{tokens} {words} per {rate.per_quantity:,} {rate.meter.name}"
    if rate.engine is not None:
        what += f" on {rate.engine.name}"
    if rate.workflow:
        what += f" in {rate.workflow}"
    if rate.block_quantity > 1:
        what += f", rounded up to blocks of {rate.block_quantity:,}"
    if rate.minimum_microtokens:
        what += f", at least {tokens_shown(rate.minimum_microtokens)} tokens a run"
    return what + "."
