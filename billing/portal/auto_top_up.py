"""Tokens that buy themselves: turned on with a preview, turned off, resumed; why nothing came."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from djmoney.money import Money

from billing import auto_top_ups, explain, money, packs, payment_methods
from billing.errors import InvalidInput, KeyReused
from billing.models import AutoTopUp, AutoTopUpWithheld, Customer, TopUpCharge
from billing.packs import Offer
from billing.pages import show
from billing.portal.pages import shared
from billing.portal.people import may_buy, of_customer
from ledger.units import LOT_MICROTOKENS_MAX, from_tokens, to_tokens, tokens_text

SHOWN_MAX: Final = 10


class TermsForm(forms.Form):
    """What is to be bought, when, and how much of it."""

    threshold = forms.DecimalField(
        label="Buy when fewer tokens are left than",
        max_digits=16,
        decimal_places=6,
        min_value=0,
        max_value=to_tokens(LOT_MICROTOKENS_MAX),
    )
    pack = forms.TypedChoiceField(label="Buy", coerce=int)
    ceiling = forms.DecimalField(
        max_digits=16,
        decimal_places=3,
        min_value=0,
        help_text="Before tax. When it is reached nothing more is bought until the next month.",
    )

    def __init__(
        self, customer: Customer, offers: Iterable[Offer], *given: Any, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self.customer = customer
        self.packs = [
            (offer.pack.pk, f"{offer.pack.name} for {money.text(offer.single.price)}")
            for offer in offers
        ]
        cast(forms.ChoiceField, self.fields["pack"]).choices = self.packs
        self.fields["ceiling"].label = f"At most in a calendar month, in {customer.currency}"
        for name in ("threshold", "ceiling"):
            attributes = {"inputmode": "decimal", "autocomplete": "off"}
            self.fields[name].widget = forms.TextInput(attrs=attributes)

    @property
    def terms(self) -> dict[str, Any]:
        return {
            "pack_id": self.cleaned_data["pack"],
            "threshold_microtokens": from_tokens(self.cleaned_data["threshold"]),
            "ceiling": Money(self.cleaned_data["ceiling"], self.customer.currency),
        }

    def note(self, refusal: InvalidInput) -> None:
        for fault in refusal.faults:
            field = fault.field if fault.field in self.fields else None
            self.add_error(field, fault.message[0].upper() + fault.message[1:] + ".")


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would come of terms, in sentences, before anybody agrees to them."""

    key: uuid.UUID
    sentences: tuple[str, ...]


@require_http_methods(["GET", "HEAD", "POST"])
@of_customer
def auto_top_up(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    if request.method != "POST":
        return _page(request, customer, _form(customer), None)
    if not may_buy(request=request, customer=customer):
        raise PermissionDenied
    act = request.POST.get("act", "")
    if act in ("preview", "on"):
        return _terms(request, customer, turns_on=act == "on")
    person = cast(User, request.user)
    if act == "off":
        auto_top_ups.turn_off(customer_id=customer.pk, by=person, at=timezone.now())
        messages.success(request, "It is turned off: nothing more is bought by itself.")
    elif act == "resume":
        auto_top_ups.resume(customer_id=customer.pk, by=person, at=timezone.now())
        messages.success(request, "It goes on: tokens are bought again when they run short.")
    return redirect("auto_top_up", reference=customer.reference)


def _terms(request: HttpRequest, customer: Customer, *, turns_on: bool) -> HttpResponse:
    """Show what would come of what was typed, or agree to it."""
    form = _form(customer, request.POST)
    if not form.is_valid():
        return _page(request, customer, form, None)
    now = timezone.now()
    try:
        wanted = auto_top_ups.check(customer=customer, at=now, **form.terms)
    except InvalidInput as refusal:
        form.note(refusal)
        return _page(request, customer, form, None)
    if not turns_on:
        return _page(request, customer, form, _preview(wanted, now))
    try:
        auto_top_ups.turn_on(
            customer_id=customer.pk,
            by=request.user,
            idempotency_key=uuid.UUID(request.POST.get("key", "")),
            at=now,
            **form.terms,
        )
    except (ValueError, KeyReused):
        messages.error(request, "Please look at the preview again.")
        return _page(request, customer, form, _preview(wanted, now))
    messages.success(request, "It is turned on.")
    return redirect("auto_top_up", reference=customer.reference)


def _form(customer: Customer, *typed: Any) -> TermsForm:
    """With what was typed, or else with what is turned on."""
    auto = auto_top_ups.current(customer=customer)
    initial = {}
    if auto is not None:
        initial = {
            "threshold": tokens_text(auto.threshold_microtokens),
            "pack": auto.pack_id,
            "ceiling": f"{auto.ceiling.amount.normalize():f}",
        }
    offers = packs.offers(customer=customer, at=timezone.now())
    return TermsForm(customer, offers, *typed, initial=initial)


def _price(auto: AutoTopUp) -> Money:
    """Of one pack."""
    return packs.in_currency(pack=auto.pack, currency=auto.customer.currency).single.price


def _page(
    request: HttpRequest, customer: Customer, form: TermsForm, preview: Preview | None
) -> HttpResponse:
    now = timezone.now()
    auto = auto_top_ups.current(customer=customer)
    context = {
        **shared(request, customer, tab="payment"),
        "auto": auto,
        "price": None if auto is None else _price(auto),
        "outlook": None if auto is None else auto_top_ups.outlook(auto_top_up=auto, at=now),
        "pause": None if auto is None else auto_top_ups.pause_of(auto_top_up=auto, at=now),
        "card": payment_methods.charged(customer=customer),
        "form": form,
        "preview": preview,
        "charges": _charges(customer),
        "withheld": AutoTopUpWithheld.objects.filter(auto_top_up__customer=customer).order_by(
            "-id"
        )[:SHOWN_MAX],
    }
    status = 400 if form.errors else 200
    return show(
        request, "portal/auto_top_up.html", context, time_zone=customer.time_zone, status=status
    )


def _charges(customer: Customer) -> QuerySet[TopUpCharge]:
    charges = TopUpCharge.objects.filter(customer=customer)
    return charges.select_related("top_up__pack", "method").order_by("-id")[:SHOWN_MAX]


def _preview(wanted: AutoTopUp, now: datetime) -> Preview:
    customer = wanted.customer
    seen = auto_top_ups.outlook(auto_top_up=wanted, at=now)
    pack, card = wanted.pack, payment_methods.charged(customer=customer)
    single = _price(wanted)
    times = int(wanted.ceiling.amount // single.amount)
    sentences = [
        f"When fewer than {explain.tokens(wanted.threshold_microtokens)} are left,"
        f" {pack.name} ({explain.tokens(pack.microtokens)}) is bought for"
        f" {money.text(single)} and {card} is charged. If one is not enough to be back at"
        f" {explain.tokens(wanted.threshold_microtokens)}, several are bought at once.",
        f"In a calendar month ({customer.time_zone}) at most {money.text(wanted.ceiling)} are"
        f" spent this way: {times} pack{'' if times == 1 else 's'}.",
        "If your bank declines or wants a confirmation it pauses at once, and you get a mail.",
        _at_once(wanted, seen),
    ]
    return Preview(key=uuid.uuid4(), sentences=tuple(sentences))


def _at_once(wanted: AutoTopUp, seen: auto_top_ups.Outlook) -> str:
    there = f"Now {explain.tokens(max(seen.level_microtokens, 0))} are left"
    if seen.level_microtokens < 0:
        there = f"Now {explain.tokens(-seen.level_microtokens)} are owed"
    if not seen.is_needed:
        return f"{there}: nothing is bought at once."
    if seen.reasons:
        return f"{there}, but nothing is bought at once. {seen.reasons[0].words}"
    count = f"{seen.packs} pack{'' if seen.packs == 1 else 's'}"
    offer = packs.in_currency(pack=wanted.pack, currency=wanted.customer.currency)
    price = money.text(offer.quote(quantity=seen.packs).price)
    return f"{there}: {count} for {price} would be bought at once."
