"""Calls that ended without success: what they were for, what Stripe said, and what a person can do.

A call that Stripe refused, or that is parked because something does not add up, is never repeated
by itself. It stands here until a person asks again (a new attempt, written anew from what the rows
say now), or until it has become pointless: the invoice was paid otherwise, the buyer began anew.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from billing import tax_location
from billing.errors import NothingToAskAgain
from billing.models import (
    CardSetup,
    CreditNote,
    Customer,
    Invoice,
    PaymentMethod,
    Refund,
    StripeCall,
    TopUp,
)
from billing.stripe import calls, outbox, reconcile

TROUBLES_MAX: Final = 50
# So long the reconciler has for what it can settle itself, and a buyer for beginning anew.
RECONCILED_WITHIN: Final = timedelta(hours=1)
CHECKOUTS_SHOWN_FOR: Final = timedelta(days=1)

# What a call is for, and what to do when it ended without success.
TOLD: Final = {
    calls.CUSTOMER_CREATE: (
        "open the customer at Stripe",
        "Correct its name or email, then ask again: its invoices and top-ups wait for this.",
    ),
    calls.CARD_ATTACH: (
        "keep the customer's card",
        "The customer can pay on the page of each invoice. Ask again to try the same card.",
    ),
    calls.CARD_DEFAULT: (
        "charge invoices to the customer's card",
        "The customer can pay on the page of each invoice. Ask again to try the same card.",
    ),
    calls.CARD_DETACH: (
        "have Stripe forget a customer's card",
        "It is still kept, and charged if it is the customer's choice. Ask again.",
    ),
    calls.TOP_UP_TAX: (
        "work out the tax on tokens that buy themselves",
        "It paused and the payer was told: resuming it in the portal tries anew.",
    ),
    calls.TOP_UP_CHARGE: (
        "charge a card for tokens that buy themselves",
        "It paused and the payer was told: a new card, then resuming it in the portal, will do.",
    ),
    calls.SETUP_CREATE: (
        "open the page on which a customer gives a card",
        "Nothing was saved; the customer was told and can begin again.",
    ),
    calls.CHECKOUT_CREATE: (
        "open the payment page of a top-up",
        "Nothing was charged; the buyer was told and can begin again.",
    ),
    calls.INVOICE_CREATE: ("make an invoice", "Mend what Stripe names, then ask again."),
    calls.INVOICE_LINES: ("fill an invoice", "Mend what Stripe names, then ask again."),
    calls.INVOICE_VERIFY: (
        "check an invoice's draft against our lines",
        "Undo at Stripe what was changed in the draft, then ask again: till then it waits.",
    ),
    calls.INVOICE_FINALIZE: (
        "issue an invoice",
        "Mend what Stripe names, then ask again.",
    ),
    calls.INVOICE_SEND: ("send an invoice", "Correct the customer's email, then ask again."),
    calls.CREDIT_NOTE_PREVIEW: (
        "ask what a credit note comes to",
        "Nothing was credited. Mend what Stripe names, then ask again or credit anew.",
    ),
    calls.CREDIT_NOTE_CREATE: (
        "credit an invoice",
        "Nothing was credited. Credit the invoice anew on its page.",
    ),
    calls.REFUND_CREATE: (
        "refund a top-up",
        "The customer has its tokens back. Ask for the refund anew on the top-up's page.",
    ),
    calls.INVOICE_PAY: (
        "charge an invoice",
        "It is open, and can be paid on its page. Ask again to charge the customer's card again.",
    ),
}

# Where Stripe's own code says more than the kind of call.
REMEDIES: Final = {
    tax_location.LOCATION_UNKNOWN: (
        "For the tax Stripe needs the customer's address. The customer was asked to give it on its"
        " page at Stripe (portal, Payment); you can enter it in Stripe's Dashboard. Then the"
        " invoice goes on by itself."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A call that ended without success, for a person to look at."""

    call: StripeCall
    customer: Customer
    what: str
    words: str
    remedy: str


def standing(*, at: datetime) -> QuerySet[StripeCall]:
    """The calls that are for a person to look at, the latest first."""
    later = StripeCall.objects.filter(
        operation=OuterRef("operation"),
        aggregate_id=OuterRef("aggregate_id"),
        attempt__gt=OuterRef("attempt"),
    )
    over = Invoice.objects.filter(
        Q(payment__isnull=False) | Q(given_up__isnull=False), pk=OuterRef("aggregate_id")
    )
    # A refund that Stripe refused is over; it is told among those that failed.
    failed = Refund.objects.filter(failure__isnull=False, pk=OuterRef("aggregate_id"))
    # Somebody credited the invoice anew.
    anew = CreditNote.objects.filter(
        pk=OuterRef("aggregate_id"),
        refused__isnull=False,
        invoice__credit_notes__asked_at__gt=F("asked_at"),
    )
    ended = StripeCall.objects.filter(Q(refused_at__isnull=False) | Q(parked_at__isnull=False))
    return (
        ended.filter(~Exists(later), ~Exists(over), ~Exists(failed), ~Exists(anew))
        .exclude(
            parked_at__gt=at - RECONCILED_WITHIN,
            error_code__in=[outbox.KEY_TOO_OLD, outbox.KEY_POISONED],
        )
        .exclude(
            operation__in=[calls.CHECKOUT_CREATE, calls.SETUP_CREATE],
            created_at__lt=at - CHECKOUTS_SHOWN_FOR,
        )
        .order_by("-id")
    )


def of_books(*, book_ids: Sequence[int], at: datetime) -> list[Trouble]:
    """What stands at the customers of these books, the latest first, at most TROUBLES_MAX."""
    about = OuterRef("aggregate_id")
    own = standing(at=at).filter(
        Exists(Customer.objects.filter(reference=about, vendor__book_id__in=book_ids))
        | Exists(Invoice.objects.filter(pk=about, customer__vendor__book_id__in=book_ids))
        | Exists(TopUp.objects.filter(pk=about, customer__vendor__book_id__in=book_ids))
        | Exists(PaymentMethod.objects.filter(pk=about, customer__vendor__book_id__in=book_ids))
        | Exists(CardSetup.objects.filter(pk=about, customer__vendor__book_id__in=book_ids))
        | Exists(
            CreditNote.objects.filter(pk=about, invoice__customer__vendor__book_id__in=book_ids)
        )
        | Exists(Refund.objects.filter(pk=about, top_up__customer__vendor__book_id__in=book_ids))
    )
    found = list(own[:TROUBLES_MAX])
    customers = _customers({call.aggregate_id for call in found})
    return [_trouble(call, customers[call.aggregate_id]) for call in found]


def customer_of(*, call: StripeCall) -> Customer | None:
    """For whom a call is."""
    return _customers({call.aggregate_id}).get(call.aggregate_id)


def ask_again(*, call_id: int, at: datetime) -> StripeCall:
    """A new attempt, with the parameters that follow from the rows as they are now.

    What was parked may have been carried out; then it counts as done, and nothing is asked again.
    Asking twice is asking once. Returns the call that stands from now on. Raises StripeUnavailable,
    StripeClosed and NothingToAskAgain.
    """
    call = StripeCall.objects.get(pk=call_id)
    if Refund.objects.filter(pk=call.aggregate_id, failure__isnull=False).exists():
        raise NothingToAskAgain("the tokens went back to the customer: ask for the refund anew")
    if CreditNote.objects.filter(pk=call.aggregate_id, refused__isnull=False).exists():
        raise NothingToAskAgain("the credit note is over: credit the invoice anew")
    if call.parked_at is not None and call.first_sent_at is not None:
        reply = reconcile.evidence(call=call)
        if reply is not None:
            outbox.adopt(call=call, reply=reply, at=at)
    with transaction.atomic():
        call = StripeCall.objects.select_for_update(no_key=True).get(pk=call_id)
        if call.refused_at is None and call.parked_at is None:
            return call
        latest = StripeCall.objects.filter(operation=call.operation, aggregate_id=call.aggregate_id)
        newest = latest.order_by("-attempt")[0]
        if newest.pk != call.pk:
            return newest
        return calls.write_again(call=call, params=calls.params_now(call=call, at=at), at=at)


def _trouble(call: StripeCall, customer: Customer) -> Trouble:
    what, remedy = TOLD[calls.family(call)]
    remedy = REMEDIES.get(call.error_code, remedy)
    words = call.error_message or "nothing: the time to ask was over"
    return Trouble(call=call, customer=customer, what=what, words=words, remedy=remedy)


def _customers(aggregate_ids: set[uuid.UUID]) -> dict[uuid.UUID, Customer]:
    found = {row.reference: row for row in Customer.objects.filter(reference__in=aggregate_ids)}
    for rows in (
        Invoice.objects.filter(pk__in=aggregate_ids).select_related("customer"),
        TopUp.objects.filter(pk__in=aggregate_ids).select_related("customer"),
        PaymentMethod.objects.filter(pk__in=aggregate_ids).select_related("customer"),
        CardSetup.objects.filter(pk__in=aggregate_ids).select_related("customer"),
    ):
        found |= {row.pk: row.customer for row in rows}
    notes = CreditNote.objects.filter(pk__in=aggregate_ids).select_related("invoice__customer")
    found |= {row.pk: row.invoice.customer for row in notes}
    asked = Refund.objects.filter(pk__in=aggregate_ids).select_related("top_up__customer")
    return found | {row.pk: row.top_up.customer for row in asked}
