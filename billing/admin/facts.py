"""What people were told: alerts and notices. Read-only; the operations of billing write them."""

from django.contrib import admin

from billing import explain
from billing.models import AlertMessage, Notice
from config.admin import FactAdmin


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


@admin.register(Notice)
class NoticeAdmin(FactAdmin[Notice]):
    book_path = "customer__vendor__book_id"
    list_display = ("subject", "customer", "written_at", "sent_at", "parked_at")
    list_select_related = ("customer__vendor",)
    search_fields = ("subject", "customer__name")
    ordering = ("-written_at",)
    fields = ("customer", "subject", "body", "written_at", "sent_at", "parked_at", "error")
    purpose = "Mails to the people of a customer about its payments, each told once."
