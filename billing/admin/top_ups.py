"""Top-ups: what customers set out to buy, what came of it, and its refund."""

import uuid
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from djmoney.money import Money
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from billing import explain, money, refunds, reversals, top_ups
from billing.admin import fields
from billing.errors import BillingError
from billing.models import Dispute, Refund, TopUp
from billing.models.reversals import REASON_LENGTH_MAX
from billing.refunds import Refundable
from config.admin import ADMIN, FINANCE, FactAdmin, FactsInline, TokensField, page_action

COMMANDERS = frozenset({ADMIN, FINANCE})


class RefundForm(forms.Form):
    """The refund's id is hidden in it: sent twice, it refunds once."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    tokens = TokensField(
        required=False,
        widget=fields.decimal_widget(),
        help_text="So many, for what they cost. Leave both empty for all that is left.",
    )
    amount = fields.AmountField(
        required=False, help_text="Or so much money, with tax; it takes the tokens that it bought."
    )
    reason = forms.CharField(
        required=False,
        max_length=REASON_LENGTH_MAX,
        widget=UnfoldAdminTextInputWidget,
        help_text="For your colleagues. The customer does not see it.",
    )
    force = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        label="Also what is used",
        help_text="What is left no more is owed by the customer: its next tokens repay it.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("tokens") is not None and cleaned.get("amount") is not None:
            self.add_error("amount", "Say tokens or money, not both.")
        return cleaned


class RefundsInline(FactsInline[Refund, TopUp]):
    model = Refund
    verbose_name_plural = "refunds"
    fields = ("amount_text", "tokens", "how", "reason", "asked_by", "asked_at")
    readonly_fields = fields
    ordering = ("asked_at",)

    @admin.display(description="amount")
    def amount_text(self, refund: Refund) -> str:
        return money.text(refund.amount)

    @admin.display(description="tokens")
    def tokens(self, refund: Refund) -> str:
        known = refund.microtokens is not None
        return explain.tokens(refund.microtokens or 0) if known else "its share of the payment"

    @admin.display(description="state")
    def how(self, refund: Refund) -> str:
        if hasattr(refund, "failure"):
            return refund.failure.get_kind_display()
        return "succeeded" if hasattr(refund, "success") else "under way"


class DisputesInline(FactsInline[Dispute, TopUp]):
    model = Dispute
    verbose_name_plural = "disputes"
    fields = ("amount_text", "reason", "how", "opened_at")
    readonly_fields = fields
    ordering = ("opened_at",)

    @admin.display(description="amount")
    def amount_text(self, dispute: Dispute) -> str:
        return money.text(dispute.amount)

    @admin.display(description="state")
    def how(self, dispute: Dispute) -> str:
        return reversals.status_of(dispute).replace("_", " ")


@admin.register(TopUp)
class TopUpAdmin(FactAdmin[TopUp]):
    book_path = "customer__vendor__book_id"
    list_display = ("customer", "pack", "tokens", "price_text", "state", "begun_at")
    list_select_related = ("customer__vendor", "pack", "session", "payment", "fulfilment")
    search_fields = ("customer__name",)
    ordering = ("-begun_at",)
    fields = ("customer", "pack", "tokens", "price_text", "begun_at", "state", "owed")
    readonly_fields = ("tokens", "price_text", "state", "owed")
    inlines = (RefundsInline, DisputesInline)
    actions_detail = ("refund",)
    purpose = "Packs that customers set out to buy in their portal, and what came of it."

    def get_queryset(self, request: HttpRequest) -> Any:
        found = super().get_queryset(request)
        return found.prefetch_related(
            "refunds__success", "refunds__failure", "disputes__statuses", "reversals"
        )

    @admin.display(description="tokens")
    def tokens(self, top_up: TopUp) -> str:
        return explain.tokens(top_up.microtokens)

    @admin.display(description="price")
    def price_text(self, top_up: TopUp) -> str:
        return money.text(top_up.price)

    @admin.display(description="state")
    def state(self, top_up: TopUp) -> str:
        return top_ups.state(top_up=top_up)

    @admin.display(description="owed for it")
    def owed(self, top_up: TopUp) -> str:
        """What was used of tokens that went back."""
        last = max(top_up.reversals.all(), key=lambda row: row.number, default=None)
        return "-" if last is None else explain.tokens(last.owed_microtokens)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        top_up = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        return actions if hasattr(top_up, "payment") else []

    @page_action(description="Refund …", url_path="refund", roles=COMMANDERS, icon="undo")
    def refund(self, request: HttpRequest, top_up: TopUp) -> HttpResponse:
        """Say what can go back and ask how much; then ask Stripe."""
        page = reverse("admin:billing_topup_change", args=[top_up.pk])
        try:
            most = refunds.refundable(top_up=top_up, at=timezone.now())
        except BillingError as refusal:
            messages.error(request, f"{str(refusal)[0].upper()}{str(refusal)[1:]}.")
            return redirect(page)
        form = RefundForm(request.POST or None, initial={"key": uuid.uuid4()})
        if form.is_valid():
            answer = self._ask(request, top_up, form)
            if answer is not None:
                messages.success(
                    request, f"{money.text(answer.amount)} go back; Stripe is asked in a moment."
                )
                return redirect(page)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Refund {top_up.pack} of {top_up.customer}?",
            "lead": _lead(most),
            "form": form,
            "yes": "Refund",
            "back": page,
        }
        return TemplateResponse(request, "admin/ask.html", context)

    def _ask(self, request: HttpRequest, top_up: TopUp, form: RefundForm) -> Refund | None:
        asked = form.cleaned_data
        amount = asked["amount"]
        try:
            refund = refunds.ask(
                top_up_id=top_up.pk,
                microtokens=asked["tokens"],
                amount=None if amount is None else Money(amount, top_up.payment.currency),
                force=asked["force"],
                reason=asked["reason"],
                asked_by=cast(User, request.user),
                idempotency_key=asked["key"],
                at=timezone.now(),
            )
        except BillingError as refusal:
            form.add_error("tokens" if amount is None else "amount", str(refusal))
            return None
        self.log_change(request, top_up, f"Asked for a refund of {money.text(refund.amount)}.")
        return refund


def _lead(most: Refundable) -> str:
    """What can go back, in words."""
    left, whole = explain.tokens(most.microtokens), money.text(most.amount_max)
    if not most.microtokens:
        return f"Nothing is left of it. At most {whole} can go back; what was used is owed then."
    return (
        f"{left} are left, for {money.text(most.amount)}. Nobody can spend them from now on; if the"
        f" refund fails they come back. At most {whole} can go back; what was used is owed then."
    )
