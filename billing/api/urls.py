from django.urls import path

from billing.api import invoices, stripe_webhook

urlpatterns = [
    path("stripe/webhook", stripe_webhook.receive, name="stripe-webhook"),
    path("accounts/<str:account>/next-invoice", invoices.NextInvoiceOfAccount.as_view()),
    path("accounts/<str:account>/invoices", invoices.InvoicesOfAccount.as_view()),
    path(
        "accounts/<str:account>/invoices/<uuid:invoice>/statement",
        invoices.StatementOfInvoice.as_view(),
    ),
]
