"""Disputes: a cardholder asks the bank to take a payment back.

Of a top-up the lot is frozen while the bank has the money, and revoked if it keeps it; what was
used by then is owed. An inquiry moves no money: people are told, no more. An invoice that is
disputed is shown as such; the tokens of its period stay.
"""

from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from djmoney.money import Money

from billing import money, notices, reversals
from billing.models import Dispute, DisputeStatus, Invoice, TopUp

OVER: Final = (*sorted(reversals.GIVEN_BACK), reversals.LOST)


def record(
    *,
    stripe_dispute_id: str,
    top_up: TopUp | None,
    invoice: Invoice | None,
    amount: Money,
    reason: str,
    status: str,
    opened_at: datetime,
    at: datetime,
) -> Dispute:
    """A dispute stands so, as Stripe was asked just now. Told again, nothing changes."""
    with transaction.atomic():
        if top_up is not None:
            TopUp.objects.select_for_update(no_key=True).get(pk=top_up.pk)
        dispute, _ = Dispute.objects.get_or_create(
            stripe_dispute_id=stripe_dispute_id,
            defaults={
                "top_up": top_up,
                "invoice": invoice,
                "amount": amount,
                "reason": reason,
                "opened_at": opened_at,
            },
        )
        before = reversals.status_of(dispute)
        if before != status:
            DisputeStatus.objects.create(dispute=dispute, status=status, noted_at=at)
        if top_up is not None:
            reversals.settle(top_up_id=top_up.pk, at=at)
            if reversals.holds_money(status) and not reversals.holds_money(before or "won"):
                _tell(dispute, top_up, at=at)
        return dispute


def _tell(dispute: Dispute, top_up: TopUp, *, at: datetime) -> None:
    customer, amount = top_up.customer, money.text(dispute.amount)
    notices.tell(
        customer=customer,
        about=f"dispute:{dispute.stripe_dispute_id}:opened",
        subject=f"{customer}: a payment of {amount} is disputed",
        body=(
            f"A bank was asked to take back {amount} for {top_up.pack}. Until it has decided, what"
            " is left of these tokens is frozen, and nothing more can be bought. If the payment was"
            " yours, please withdraw the dispute with your bank.\n\n"
            f"{notices.page(customer, 'invoices/')}\n"
        ),
        at=at,
    )


def open_ones() -> QuerySet[Dispute]:
    """Disputes and inquiries that the bank has not decided."""
    last = DisputeStatus.objects.filter(dispute=OuterRef("pk")).order_by("-id")
    return Dispute.objects.annotate(status=Subquery(last.values("status")[:1])).exclude(
        status__in=OVER
    )


def holds_top_ups(*, customer_id: int) -> bool:
    """Whether a top-up of the customer is disputed: it buys no more until that is decided."""
    own = open_ones().filter(top_up__customer_id=customer_id)
    return any(reversals.holds_money(reversals.status_of(dispute)) for dispute in own)
