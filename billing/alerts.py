"""Alerts: people are told when a period's allotment is used to the thresholds of its plan.

The share is that of the allotment, exactly: a threshold is reached when used x 100 >= threshold x
granted. Used is what runs took and what repaid a debt, not what expired or rolled over. Each
threshold is raised once a period, and one look that finds several crossed sends one message, which
names the highest. The last look at a period is part of its closing.

A top-up that is bought after a message widens what is measured, and so does a change to a larger
plan: their tokens count beside the allotment's. If that brings the share below a threshold that was
raised, the threshold is armed again. Nothing else arms it, so a share that goes up and down raises
nothing twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import Min, Q, QuerySet

from billing import allotments, sweeps
from billing.models import Alert, AlertMessage, Period, PlanChange, TopUpFulfilment
from ledger import queries
from ledger.queries import LotNow

PERIODS_PER_LOOK_MAX: Final = 500


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much is used of what is measured; `widened_at` is when the last top-up widened it."""

    used_microtokens: int
    granted_microtokens: int
    widened_at: datetime | None

    def reaches(self, threshold: int) -> bool:
        return self.used_microtokens * 100 >= threshold * self.granted_microtokens


def evaluate(*, at: datetime) -> int:
    """Look at every period that runs or waits for its closing; how many messages it raised.

    Several workers may look at once: the period's row is locked, and a threshold raised once.
    """
    return sum(_look_at(page, at=at) for page in _running(at))


def look(*, period: Period, at: datetime) -> int:
    """Look at one period, as its closing does before the allotment's rest goes."""
    if hasattr(period, "settlement") or period.allotment_lot_id is None:
        return 0
    return _look_at(_with_lots([period]), at=at)


def acknowledge(*, message_id: int, user: Any, at: datetime) -> AlertMessage:
    """Somebody has seen it. Acknowledging it again changes nothing."""
    AlertMessage.objects.filter(pk=message_id, acknowledged_at__isnull=True).update(
        acknowledged_at=at, acknowledged_by=user
    )
    return AlertMessage.objects.get(pk=message_id)


def share(*, period: Period, lots: Sequence[LotNow]) -> Share:
    """What is measured for a period, among all lots of its account."""
    first = AlertMessage.objects.filter(period=period).aggregate(at=Min("raised_at"))["at"]
    widening = _changes(period) | ({} if first is None else _top_ups_since(period, first))
    own = allotments.lot_of(period)
    measured = [lot for lot in lots if lot.id == own or lot.id in widening]
    return Share(
        used_microtokens=_used(measured),
        granted_microtokens=sum(lot.granted_microtokens for lot in measured),
        widened_at=max(widening.values(), default=None),
    )


Page = dict[int, tuple[Period, list[LotNow]]]


def _used(lots: Sequence[LotNow]) -> int:
    """Whatever left these lots but what expired or rolled over."""
    consumed = queries.all_consumed(lots={lot.id: lot.account_id for lot in lots})
    # Where a run that was owed is given back, so is what had repaid it.
    repaid = [
        movement.microtokens if movement.kind == "repay" else -movement.microtokens
        for lot in lots
        for movement in queries.movements(lot_id=lot.id)
        if movement.kind in ("repay", "repaid")
    ]
    return sum(consumed.values()) + sum(repaid)


def _look_at(page: Page, *, at: datetime) -> int:
    def look_at_one(period_id: int) -> int:
        period, lots = page[period_id]
        return _raise_reached(period, lots, at=at) if _may_have_news(period, lots) else 0

    return sweeps.each(page, look_at_one, what="alerts of a period", items_max=len(page))


def _watched() -> QuerySet[Period]:
    """Periods whose allotment has not been settled."""
    granted = Q(allotment_lot_id__isnull=False) | Q(paid_allotment__isnull=False)
    return Period.objects.filter(granted, settlement__isnull=True).select_related(
        "subscription__customer", "subscription__plan_version", "paid_allotment"
    )


def _running(at: datetime) -> Iterator[Page]:
    periods = _watched().filter(starts_at__lte=at).order_by("id")
    page = list(periods[:PERIODS_PER_LOOK_MAX])
    while page:
        yield _with_lots(page)
        page = list(periods.filter(id__gt=page[-1].pk)[:PERIODS_PER_LOOK_MAX])


def _with_lots(page: Sequence[Period]) -> Page:
    lots: dict[int, list[LotNow]] = {}
    account_ids = sorted({period.subscription.customer.account_id for period in page})
    for lot in queries.lots(account_ids=account_ids):
        lots.setdefault(lot.account_id, []).append(lot)
    return {period.pk: (period, lots[period.subscription.customer.account_id]) for period in page}


def _may_have_news(period: Period, lots: Sequence[LotNow]) -> bool:
    """Cheap, for the many periods far from any threshold."""
    thresholds = period.subscription.plan_version.alert_thresholds
    own = allotments.lot_of(period)
    [allotment] = [lot for lot in lots if lot.id == own]
    return bool(thresholds) and (
        allotment.out_microtokens * 100 >= min(thresholds) * allotment.granted_microtokens
    )


def _raise_reached(period: Period, lots: Sequence[LotNow], *, at: datetime) -> int:
    with transaction.atomic():
        Period.objects.select_for_update(no_key=True).get(pk=period.pk)
        now = share(period=period, lots=lots)
        raised = Alert.objects.filter(period=period, rearmed_at__isnull=True)
        if now.widened_at is not None:
            for alert in raised.filter(raised_at__lt=now.widened_at):
                if not now.reaches(alert.threshold):
                    alert.rearmed_at = at
                    alert.save(update_fields=["rearmed_at"])
        known = set(raised.values_list("threshold", flat=True))
        new = [
            threshold
            for threshold in period.subscription.plan_version.alert_thresholds
            if now.reaches(threshold) and threshold not in known
        ]
        if not new:
            return 0
        message = AlertMessage.objects.create(
            period=period,
            threshold=max(new),
            used_microtokens=now.used_microtokens,
            granted_microtokens=now.granted_microtokens,
            raised_at=at,
        )
        Alert.objects.bulk_create(
            Alert(message=message, period=period, threshold=threshold, raised_at=at)
            for threshold in new
        )
        return 1


def _changes(period: Period) -> dict[int, datetime]:
    """Lots that changes within the period brought, and when: more of the plan's own allotment."""
    granted = PlanChange.objects.filter(period=period, allotment_lot_id__isnull=False)
    return {lot_id or 0: at for lot_id, at in granted.values_list("allotment_lot_id", "changed_at")}


def _top_ups_since(period: Period, since: datetime) -> dict[int, datetime]:
    """Lots that top-ups of the period's customer brought after an instant, and when."""
    fulfilments = TopUpFulfilment.objects.filter(
        top_up__customer_id=period.subscription.customer_id,
        fulfilled_at__gt=since,
        fulfilled_at__lt=period.ends_at,
    )
    return {
        lot_id: fulfilled_at
        for *lot_ids, fulfilled_at in fulfilments.values_list(
            "lot_id", "bonus_lot_id", "fulfilled_at"
        )
        for lot_id in lot_ids
        if lot_id is not None
    }
