"""Pages that change what a customer is on: shown first, with what it costs, then confirmed."""

import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
)

from billing import cancelling, changes, money, moves, periods, subscriptions
from billing.changes import Quote, Wanted
from billing.errors import BillingError, InvalidInput, QuoteOutdated
from billing.models import PlanVersion, SizeOption, Subscription
from config.admin import BookAdmin, add_faults
from ledger.errors import LedgerError

WHEN = (("end", "With the next period"), ("now", "Now, with proration"))
# More than these wait too long for an answer: the command moves them, with a progress bar.
MOVED_ON_A_PAGE_MAX = 200


class ChangeForm(forms.Form):
    """To which terms, and when."""

    plan_version = forms.ModelChoiceField(
        PlanVersion.objects.none(),
        label="Plan version",
        empty_label="Choose one",
        widget=UnfoldAdminSelectWidget,
    )
    size = forms.ChoiceField(
        required=False, widget=UnfoldAdminSelectWidget, help_text="Of a plan that comes in sizes."
    )
    seats = forms.IntegerField(
        required=False,
        min_value=0,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Of a plan with a price for each seat.",
    )
    when = forms.ChoiceField(choices=WHEN, widget=UnfoldAdminSelectWidget)

    def __init__(self, *given: Any, subscription: Subscription, **options: Any) -> None:
        super().__init__(*given, **options)
        customer = subscription.customer
        for_sale = _for_sale(customer.vendor_id).filter(prices__currency=customer.currency)
        sizes = SizeOption.objects.filter(version__in=for_sale, currency=customer.currency)
        codes = dict(sizes.order_by("code").values_list("code", "name"))
        self.fields["plan_version"].queryset = for_sale  # type: ignore[attr-defined]  # a model choice
        self.fields["size"].choices = [("", "none"), *codes.items()]  # type: ignore[attr-defined]  # a choice

    def wanted(self) -> Wanted:
        typed = self.cleaned_data
        return Wanted(
            plan_version_id=typed["plan_version"].pk,
            size=typed["size"] or None,
            seats=typed["seats"] or 0,
        )


class CancelForm(forms.Form):
    when = forms.ChoiceField(
        choices=(("end", "With the period's end"), ("now", "At once")),
        widget=UnfoldAdminSelectWidget,
    )


class MoveForm(forms.Form):
    """To which version, and when."""

    to_version = forms.ModelChoiceField(
        PlanVersion.objects.none(),
        label="To",
        empty_label="Choose one",
        widget=UnfoldAdminSelectWidget,
    )
    when = forms.ChoiceField(choices=WHEN, widget=UnfoldAdminSelectWidget)

    def __init__(self, *given: Any, version: PlanVersion, **options: Any) -> None:
        super().__init__(*given, **options)
        others = _for_sale(version.plan.vendor_id).exclude(pk=version.pk)
        self.fields["to_version"].queryset = others  # type: ignore[attr-defined]  # a model choice


def change(owner: BookAdmin[Any], request: HttpRequest, row: Subscription) -> HttpResponse:
    """Ask for the terms, show what they cost, confirm exactly that."""
    page = reverse("admin:billing_subscription_change", args=[row.pk])
    if "token" in request.POST:
        return _confirm(owner, request, row, page)
    last = subscriptions.latest(subscription_id=row.pk)
    typed = request.POST if request.method == "POST" else None
    form = ChangeForm(typed, subscription=row, initial={"seats": last.seats})
    quote = None
    if form.is_valid():
        quote = _quoted(form, row)
    if quote is not None:
        return _show_quote(owner, request, quote, page)
    return _ask(
        owner,
        request,
        form,
        title=f"Change the plan of {row.customer}",
        lead="Nothing happens yet: the next page shows what the change costs now, and what the"
        " next invoice will say.",
        yes="Show what it costs",
        back=page,
    )


def withdraw(owner: BookAdmin[Any], request: HttpRequest, row: Subscription) -> HttpResponse:
    """Take back the change that waits for the period's end."""
    page = reverse("admin:billing_subscription_change", args=[row.pk])
    if request.method == "POST":
        try:
            back = changes.withdraw(
                subscription_id=row.pk, idempotency_key=uuid.uuid4(), at=timezone.now()
            )
        except BillingError as refusal:
            messages.error(request, f"{_sentence(refusal)}")
            return redirect(page)
        owner.log_change(request, row, "Change withdrawn.")
        messages.success(request, f"The change is withdrawn: {back.plan_version} goes on.")
        return redirect(reverse("admin:billing_subscription_change", args=[back.pk]))
    return _sure(
        owner,
        request,
        title=f"Withdraw the change of {row.customer}?",
        what_happens="The next period has the terms that apply now.",
        yes="Withdraw it",
        back=page,
    )


def cancel(owner: BookAdmin[Any], request: HttpRequest, row: Subscription) -> HttpResponse:
    """Say what either way does; then cancel."""
    page = reverse("admin:billing_subscription_change", args=[row.pk])
    at = timezone.now()
    form = CancelForm(request.POST or None)
    if form.is_valid():
        act = cancelling.cancel_now if form.cleaned_data["when"] == "now" else subscriptions.cancel
        try:
            cancelled = act(subscription_id=row.pk, at=at)
        except (BillingError, LedgerError) as refusal:
            form.add_error(None, _sentence(refusal))
        else:
            owner.log_change(request, row, "Cancelled.")
            messages.success(request, f"Cancelled: {end_text(cancelled)}.")
            return redirect(page)
    return _ask(
        owner,
        request,
        form,
        title=f"Cancel the subscription of {row.customer}?",
        lead=f"With the period's end, {end_text(row)}; no further period starts."
        f" What is left over follows the plan's terms. {_at_once(row, at)}",
        yes="Cancel the subscription",
        back=page,
        danger=True,
    )


def move(owner: BookAdmin[Any], request: HttpRequest, version: PlanVersion) -> HttpResponse:
    """All who are on a version: show what moving them does, then move them."""
    page = reverse("admin:billing_planversion_change", args=[version.pk])
    count = moves.to_move(from_version=version)
    form = MoveForm(request.POST or None, version=version)
    if count > MOVED_ON_A_PAGE_MAX:
        messages.error(
            request,
            f"{count} customers are too many for a page: use manage.py move_subscriptions.",
        )
        return redirect(page)
    if not form.is_valid():
        return _ask(
            owner,
            request,
            form,
            title=f"Move the customers of {version}",
            lead=f"{count} subscription{'' if count == 1 else 's'} would be moved. Nothing happens"
            " yet: the next page shows what it does to each.",
            yes="Show what it does",
            back=page,
        )
    asked = {
        "from_version": version,
        "to_version": form.cleaned_data["to_version"],
        "now": form.cleaned_data["when"] == "now",
    }
    if "sure" in request.POST:
        found = list(moves.move(**asked, at=timezone.now()))
        moved = sum(not one.skipped for one in found)
        owner.log_change(request, version, f"Moved {moved} subscriptions.")
        messages.success(request, f"{moved} moved, {len(found) - moved} left alone.")
        return redirect(page)
    context = {
        "title": f"Move the customers of {version} to {asked['to_version']}?",
        "moves": list(moves.preview(**asked, at=timezone.now())),
        "typed": form.data,
        "back": page,
    }
    return _page(owner, request, "admin/move.html", context)


def end_text(subscription: Subscription) -> str:
    """Until when it runs if it is cancelled now: to the end of the last period that is open."""
    ends_at = subscriptions.runs_until(
        subscription=subscriptions.latest(subscription_id=subscription.pk)
    )
    if ends_at is None:
        return "the subscription never begins"
    day = periods.date_text(ends_at, subscription.time_zone)
    return f"the subscription ends on {day}"


def _quoted(form: ChangeForm, row: Subscription) -> Quote | None:
    try:
        return changes.quote(
            subscription_id=row.pk,
            wanted=form.wanted(),
            now=form.cleaned_data["when"] == "now",
            at=timezone.now(),
        )
    except InvalidInput as refusal:
        add_faults(form, refusal.faults)
    except (BillingError, LedgerError) as refusal:
        form.add_error(None, _sentence(refusal))
    return None


def _confirm(
    owner: BookAdmin[Any], request: HttpRequest, row: Subscription, page: str
) -> HttpResponse:
    try:
        after = changes.confirm(
            subscription_id=row.pk,
            token=request.POST["token"],
            idempotency_key=_key(request.POST.get("key", "")),
            at=timezone.now(),
        )
    except (BillingError, LedgerError) as refusal:
        form = ChangeForm(subscription=row)
        response = _ask(
            owner,
            request,
            form,
            title=f"Change the plan of {row.customer}",
            lead=f"Nothing was changed. {_sentence(refusal)}",
            yes="Show what it costs",
            back=page,
        )
        response.status_code = 409 if isinstance(refusal, QuoteOutdated) else 422
        return response
    owner.log_change(request, row, f"Changed to {after.plan_version}.")
    begins = periods.date_text(after.begins_at, after.time_zone)
    text = "from now on" if hasattr(after, "change") else f"from {begins} on"
    messages.success(request, f"{after.customer} is on {after.plan_version} {text}.")
    return redirect(reverse("admin:billing_subscription_change", args=[after.pk]))


def _show_quote(
    owner: BookAdmin[Any], request: HttpRequest, quote: Quote, back: str
) -> HttpResponse:
    context = {
        "title": f"Change {quote.after.customer} to {quote.after.plan_version}?",
        "quote": quote,
        "key": uuid.uuid4(),
        "begins_on": periods.date_text(quote.after.begins_at, quote.after.time_zone),
        "back": back,
    }
    return _page(owner, request, "admin/change_plan.html", context)


def _at_once(row: Subscription, at: datetime) -> str:
    try:
        ending = cancelling.quote(subscription_id=row.pk, at=at)
    except BillingError:
        return ""
    if not ending.credited.amount:
        return "At once, nothing is given back."
    fees, allotment = money.text(ending.fees), money.text(ending.allotment)
    return f"At once, {fees} of fees and {allotment} for unused tokens become a credit."


def _for_sale(vendor_id: int) -> Any:
    return (
        PlanVersion.objects.filter(
            plan__vendor_id=vendor_id, published_at__isnull=False, retired_at__isnull=True
        )
        .select_related("plan")
        .order_by("plan__name", "-number")
    )


def _ask(
    owner: BookAdmin[Any],
    request: HttpRequest,
    form: forms.Form,
    *,
    danger: bool = False,
    **context: Any,
) -> HttpResponse:
    return _page(owner, request, "admin/ask.html", {**context, "form": form, "safe": not danger})


def _sure(owner: BookAdmin[Any], request: HttpRequest, **context: Any) -> HttpResponse:
    return _page(owner, request, "admin/sure.html", context)


def _page(
    owner: BookAdmin[Any], request: HttpRequest, template: str, context: dict[str, Any]
) -> HttpResponse:
    shared = {**owner.admin_site.each_context(request), "opts": owner.opts}
    return TemplateResponse(request, template, {**shared, **context})


def _key(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise QuoteOutdated from None


def _sentence(refusal: Exception) -> str:
    text = str(refusal)
    return f"{text[0].upper()}{text[1:]}."
