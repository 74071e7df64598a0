"""Invoices that wait for an address: Stripe can't work out the tax without knowing where it is due.

Stripe refuses to issue such an invoice. The customer is asked to give its address on its own page
at Stripe, and as soon as it is there the invoice is issued: by asking again under a new key, which
needs nobody. https://docs.stripe.com/tax/customer-locations
"""

from datetime import datetime
from typing import Final

from django.db.models import Exists, OuterRef, QuerySet

from billing import notices
from billing.models import Customer, Invoice, StripeCall
from billing.stripe import calls

LOCATION_UNKNOWN: Final = "customer_tax_location_invalid"


def waiting(*, customer: Customer) -> QuerySet[StripeCall]:
    """What Stripe refused for want of the customer's address, and was not asked for again."""
    return refused().filter(aggregate_id__in=Invoice.objects.filter(customer=customer).values("pk"))


def refused() -> QuerySet[StripeCall]:
    """The same of all customers."""
    later = StripeCall.objects.filter(
        operation=OuterRef("operation"),
        aggregate_id=OuterRef("aggregate_id"),
        attempt__gt=OuterRef("attempt"),
    )
    return StripeCall.objects.filter(
        ~Exists(later),
        operation=calls.INVOICE_FINALIZE,
        refused_at__isnull=False,
        error_code=LOCATION_UNKNOWN,
    )


def ask(*, invoice: Invoice, at: datetime) -> None:
    """Ask the payers for the address, once for each invoice that waits for it."""
    customer = invoice.customer
    notices.tell(
        customer=customer,
        about=f"tax_location:{invoice.pk}",
        subject=f"{customer}: an invoice waits for your address",
        body=(
            "To work out the tax on your invoice we need to know where you are. Please give your"
            f" address, and your tax number if you have one, on your page at Stripe; the way there"
            f" is at {notices.page(customer, 'payment/')}\n\n"
            "The invoice is issued as soon as it is there.\n"
        ),
        at=at,
    )


def go_on(*, customer: Customer, at: datetime) -> None:
    """The address is there: issue what waits for it. The customer must be locked."""
    for call in waiting(customer=customer):
        calls.write_again(call=call, params=call.params, at=at)
