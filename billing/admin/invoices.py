"""Invoices: read-only, as billing built them; and their credit notes."""

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
from django.utils.html import format_html
from djmoney.money import Money
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing import credit_notes, invoicing, money
from billing.admin import fields
from billing.errors import BillingError, NotCreditable
from billing.models import CreditNote, Invoice, InvoiceLine
from billing.models.credit_notes import MEMO_LENGTH_MAX
from config.admin import ADMIN, FINANCE, FactAdmin, FactsInline, page_action

COMMANDERS = frozenset({ADMIN, FINANCE})


class CreditForm(forms.Form):
    """A field for each line that has something left; the note's id is hidden: sent twice, it
    credits once."""

    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *given: Any, invoice: Invoice, **options: Any) -> None:
        super().__init__(*given, **options)
        self.currency = invoice.currency
        left = credit_notes.left(invoice=invoice)
        for line in invoice.lines.all():
            if left[line.pk].amount:
                self.fields[f"line_{line.pk}"] = fields.AmountField(
                    label=line.description,
                    required=False,
                    help_text=f"At most {money.text(left[line.pk])}, before tax.",
                )
        self.fields["reason"] = forms.ChoiceField(
            choices=CreditNote.Reason.choices, required=False, widget=UnfoldAdminSelectWidget
        )
        self.fields["memo"] = forms.CharField(
            required=False,
            max_length=MEMO_LENGTH_MAX,
            widget=UnfoldAdminTextInputWidget,
            help_text="Stands on the credit note.",
        )
        self.fields["is_out_of_band"] = forms.BooleanField(
            required=False,
            label="Paid back otherwise",
            widget=UnfoldBooleanSwitchWidget,
            help_text="What was paid already is paid back by you, not refunded by Stripe.",
        )

    @property
    def amounts(self) -> dict[int, Money]:
        return {
            int(name.removeprefix("line_")): Money(amount, self.currency)
            for name, amount in self.cleaned_data.items()
            if name.startswith("line_") and amount
        }


class LinesInline(FactsInline[InvoiceLine, Invoice]):
    model = InvoiceLine
    fk_name = "invoice"
    verbose_name_plural = "lines"
    fields = ("description", "amount_text")
    readonly_fields = fields

    @admin.display(description="amount")
    def amount_text(self, line: InvoiceLine) -> str:
        return money.text(line.amount)


class CreditNotesInline(FactsInline[CreditNote, Invoice]):
    model = CreditNote
    verbose_name_plural = "credit notes"
    fields = ("number", "total", "how", "reason", "memo", "asked_by", "asked_at")
    readonly_fields = fields
    ordering = ("asked_at",)

    @admin.display(description="number")
    def number(self, note: CreditNote) -> str:
        return note.issued.number if hasattr(note, "issued") else "not yet"

    @admin.display(description="total")
    def total(self, note: CreditNote) -> str:
        if hasattr(note, "issued"):
            return money.text(note.issued.total)
        amounts = [line.amount for line in note.lines.all()]
        return f"{money.text(sum(amounts[1:], amounts[0]))} before tax" if amounts else "-"

    @admin.display(description="state")
    def how(self, note: CreditNote) -> str:
        if hasattr(note, "refused"):
            return f"refused: {note.refused.message}"
        if hasattr(note, "voided"):
            return "voided"
        if not hasattr(note, "issued"):
            return "under way"
        back = note.issued.paid_back
        return f"issued, {money.text(back)} paid back" if back.amount else "issued"


STATES = {
    "preparing": "being sent",
    "failed": "payment failed",
    "carried": "too small to be charged: carried to the next",
    "disputed": "paid, disputed",
    "lost": "paid, lost to a dispute",
}


@admin.register(Invoice)
class InvoiceAdmin(FactAdmin[Invoice]):
    book_path = "customer__vendor__book_id"
    list_display = ("number", "customer", "occasion", "total", "state", "built_at")
    list_select_related = ("customer__vendor", "finalization", "payment")
    search_fields = ("customer__name", "finalization__number")
    ordering = ("-built_at",)
    fields = ("number", "customer", "occasion", "period", "total", "state", "built_at", "hosted")
    readonly_fields = ("number", "total", "state", "hosted")
    inlines = (LinesInline, CreditNotesInline)
    actions_detail = ("credit",)
    purpose = "Built when a period opens or closes, sent and paid through Stripe."

    @admin.display(description="number")
    def number(self, invoice: Invoice) -> str:
        return invoice.finalization.number if hasattr(invoice, "finalization") else "not yet"

    @admin.display(description="total")
    def total(self, invoice: Invoice) -> str:
        if hasattr(invoice, "finalization"):
            return money.text(invoice.finalization.total)
        amounts = [line.amount for line in invoice.lines.all()]
        return f"{money.text(sum(amounts[1:], amounts[0]))} before tax" if amounts else "-"

    @admin.display(description="state")
    def state(self, invoice: Invoice) -> str:
        word = invoicing.state(invoice=invoice)
        return STATES.get(word, word)

    @admin.display(description="page at Stripe")
    def hosted(self, invoice: Invoice) -> str:
        if not hasattr(invoice, "finalization"):
            return "-"
        page = invoice.finalization.hosted_url
        return format_html('<a class="rl-link" href="{}" rel="noopener">{}</a>', page, page)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        invoice = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        return actions if hasattr(invoice, "finalization") else []

    @page_action(description="Credit …", url_path="credit", roles=COMMANDERS, icon="remove_circle")
    def credit(self, request: HttpRequest, invoice: Invoice) -> HttpResponse:
        """Ask how much of which line; then ask Stripe."""
        page = reverse("admin:billing_invoice_change", args=[invoice.pk])
        try:
            credit_notes.require_creditable(invoice=invoice)
        except BillingError as refusal:
            messages.error(request, f"{str(refusal)[0].upper()}{str(refusal)[1:]}.")
            return redirect(page)
        form = CreditForm(request.POST or None, invoice=invoice, initial={"key": uuid.uuid4()})
        if form.is_valid() and self._ask(request, invoice, form):
            messages.success(request, "The credit note is on its way; Stripe is asked in a moment.")
            return redirect(page)
        paid = hasattr(invoice, "payment")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Credit invoice {invoice.finalization.number} of {invoice.customer}?",
            "lead": "What you credit is taken off in proportion with its tax, which Stripe books. "
            + (
                "The invoice is paid: the money goes back the way it came."
                if paid
                else "The invoice is still to be paid: the customer pays so much less."
            ),
            "form": form,
            "yes": "Credit",
            "back": page,
        }
        return TemplateResponse(request, "admin/ask.html", context)

    def _ask(self, request: HttpRequest, invoice: Invoice, form: CreditForm) -> bool:
        try:
            credit_notes.ask(
                invoice_id=invoice.pk,
                amounts=form.amounts,
                reason=form.cleaned_data["reason"],
                memo=form.cleaned_data["memo"],
                is_out_of_band=form.cleaned_data["is_out_of_band"],
                asked_by=cast(User, request.user),
                idempotency_key=form.cleaned_data["key"],
                at=timezone.now(),
            )
        except NotCreditable as refusal:
            field = f"line_{refusal.line_id}"
            form.add_error(field if field in form.fields else None, str(refusal))
            return False
        except BillingError as refusal:
            form.add_error(None, str(refusal))
            return False
        self.log_change(request, invoice, "Asked for a credit note.")
        return True
