"""A customer's top-ups in a list: which pack, how it stands, and what of it went back."""

from dataclasses import dataclass
from datetime import datetime

from djmoney.money import Money

from billing import top_ups
from billing.models import Customer, TopUp


@dataclass(frozen=True, kw_only=True)
class PurchaseRow:
    """`went_back`: refunded, or on its way."""

    top_up: TopUp
    state: str  # as top_ups.state says it
    at: datetime
    went_back: Money | None


def latest(*, customer: Customer, top_ups_max: int) -> list[PurchaseRow]:
    """Newest first."""
    rows = (
        TopUp.objects.filter(customer=customer)
        .select_related("pack", "session", "payment", "fulfilment", "charge")
        .prefetch_related("refunds__success", "refunds__failure", "disputes__statuses")
        .order_by("-begun_at")
    )
    return [_row(top_up) for top_up in rows[:top_ups_max]]


def _row(top_up: TopUp) -> PurchaseRow:
    amounts = [one.amount for one in top_up.refunds.all() if not hasattr(one, "failure")]
    return PurchaseRow(
        top_up=top_up,
        state=top_ups.state(top_up=top_up),
        at=top_up.begun_at,
        went_back=sum(amounts[1:], start=amounts[0]) if amounts else None,
    )
