"""What followed: invoices, alerts. Read-only; the operations of billing write them."""

from django.contrib import admin
from django.utils.html import format_html

from billing import explain, invoicing, money
from billing.models import AlertMessage, Invoice, InvoiceLine
from config.admin import FactAdmin, FactsInline


class LinesInline(FactsInline[InvoiceLine, Invoice]):
    model = InvoiceLine
    fk_name = "invoice"
    verbose_name_plural = "lines"
    fields = ("description", "amount_text")
    readonly_fields = fields

    @admin.display(description="amount")
    def amount_text(self, line: InvoiceLine) -> str:
        return money.text(line.amount)


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
    inlines = (LinesInline,)
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


@admin.register(AlertMessage)
class AlertMessageAdmin(FactAdmin[AlertMessage]):
    book_path = "period__subscription__customer__vendor__book_id"
    list_display = ("customer", "threshold_text", "raised_at", "sent_at", "acknowledged_by")
    list_select_related = ("period__subscription__customer__vendor", "acknowledged_by")
    ordering = ("-raised_at",)
    fields = (
        *("customer", "threshold_text", "used", "granted", "raised_at", "sent_at"),
        *("parked_at", "error", "acknowledged_at", "acknowledged_by"),
    )
    readonly_fields = ("customer", "threshold_text", "used", "granted")
    purpose = "How much of a period's allotment is used, told at the thresholds of its plan."

    @admin.display(description="customer")
    def customer(self, message: AlertMessage) -> str:
        return message.period.subscription.customer.name

    @admin.display(description="of the allotment", ordering="threshold")
    def threshold_text(self, message: AlertMessage) -> str:
        return f"{message.threshold} %"

    @admin.display(description="used")
    def used(self, message: AlertMessage) -> str:
        return explain.tokens(message.used_microtokens)

    @admin.display(description="granted")
    def granted(self, message: AlertMessage) -> str:
        return explain.tokens(message.granted_microtokens)
