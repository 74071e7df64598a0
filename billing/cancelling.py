"""A subscription that is cancelled at once: its period ends now, and what is not used comes back.

    fees        platform fee and seats, for the share of the term that is left: a credit
    allotment   tokens that nobody used, at most that share of each lot, are taken back, and what
                was paid for them is a credit; what is left beyond follows the plan's terms
    overage     what was used is invoiced when the period's grace is over, as after any period;
                credits are set against it, and what is left of them waits for a next invoice

In a trial there is nothing to give back: its tokens end with it. (Cancelling with the period's
end is in billing.subscriptions.)
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from djmoney.money import Money

from billing import allotments, changes, crediting, money, periods, subscriptions
from billing.changes import Place
from billing.models import Credit, Customer, Gift, Period, Subscription
from ledger import debiting, endings, queries, reversals
from ledger.queries import LotNow
from ledger.value import prepaid_slice_micros


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """Tokens of a lot that nobody used, and what was paid for them."""

    lot: LotNow
    microtokens: int
    micros: int


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What cancelling at once does; before tax."""

    ends_at: datetime
    fees: Money
    allotment: Money
    microtokens: int

    @property
    def credited(self) -> Money:
        return self.fees + self.allotment


def quote(*, subscription_id: uuid.UUID, at: datetime) -> Ending:
    """What cancelling at once would give back. Writes nothing. Raises NotChangeable."""
    last = subscriptions.latest(subscription_id=subscription_id)
    if not _has_begun(last):
        nothing = Money(0, last.customer.currency)
        return Ending(ends_at=at, fees=nothing, allotment=nothing, microtokens=0)
    place = Place.of(subscription_id=subscription_id, at=at, may_be_cancelled=True)
    return _ending(place, _taken_back(place.period, ends_at=at), ends_at=at)


def cancel_now(*, subscription_id: uuid.UUID, at: datetime) -> Subscription:
    """End a subscription and the period that runs; the one that was the last.

    Also one that was cancelled with its period's end. Cancelling it again changes nothing. Raises
    NotChangeable if its next period is just being opened.
    """
    last = subscriptions.latest(subscription_id=subscription_id)
    debiting.drain_all(account_ids=[last.customer.account_id], at=at)
    with transaction.atomic():
        last = subscriptions.cancel(subscription_id=subscription_id, at=at)
        Customer.objects.select_for_update(no_key=True).get(pk=last.customer_id)
        if not _has_begun(last):
            _end_trial(last, at=at)
            return last
        until = subscriptions.runs_until(subscription=last)
        if until is not None and until > at:
            _end_period(Place.of(subscription_id=last.pk, at=at, may_be_cancelled=True), at=at)
        return last


def _has_begun(subscription: Subscription) -> bool:
    return subscription.continues is not None or subscription.periods.exists()


def _end_trial(subscription: Subscription, *, at: datetime) -> None:
    gift = Gift.objects.filter(subscription=subscription, kind=Gift.Kind.TRIAL).first()
    if gift is None or subscription.trial_starts_at is None:
        return
    ends_at = max(at, subscription.trial_starts_at + changes.MOMENT)
    if ends_at < subscription.starts_at:
        endings.end_lots(
            account_id=subscription.customer.account_id,
            lot_ids=[gift.lot_id],
            ends_at=ends_at,
            idempotency_key=f"cancel:{subscription.pk}:trial",
            at=at,
        )


def _end_period(place: Place, *, at: datetime) -> None:
    period = Period.objects.select_for_update(no_key=True, of=("self",)).get(pk=place.period.pk)
    ends_at = max(at, period.starts_at + changes.MOMENT)
    if lot_ids := _lot_ids(period):
        ends_at = endings.end_lots(
            account_id=place.customer.account_id,
            lot_ids=lot_ids,
            ends_at=ends_at,
            idempotency_key=f"cancel:{period.pk}:end",
            at=at,
        )
    taken_back = _taken_back(place.period, ends_at=ends_at)
    for one in taken_back:
        reversals.reverse(
            lot_id=one.lot.id,
            revoked_microtokens=one.microtokens,
            frozen_microtokens=0,
            may_owe=False,
            idempotency_key=f"cancel:{period.pk}:{one.lot.id}",
            at=at,
        )
    ending = _ending(place, taken_back, ends_at=ends_at)
    for what, amount in (("fees", ending.fees), ("allotment", ending.allotment)):
        if amount.amount:
            crediting.record(
                customer=place.customer,
                amount=amount,
                reason=Credit.Reason.CANCELLATION,
                description=f"Cancelled: {what} for what is left of the term",
                period=period,
                idempotency_key=f"cancel:{period.pk}:{what}",
                at=at,
            )
    period.ends_at = ends_at
    period.save(update_fields=["ends_at"])


def _lot_ids(period: Period) -> list[int]:
    own = [allotments.lot_of(period), period.overage_lot_id]
    further = period.changes.values_list("allotment_lot_id", flat=True)
    return [lot_id for lot_id in (*own, *further) if lot_id is not None]


def _ending(place: Place, taken_back: list[TakenBack], *, ends_at: datetime) -> Ending:
    code = place.customer.currency
    period = place.period
    fees = periods.share_left(
        changes.fees_micros(place.applying),
        starts_at=period.starts_at,
        ends_at=period.term_ends_at,
        at=ends_at,
    )
    return Ending(
        ends_at=ends_at,
        fees=money.rounded(fees, code),
        allotment=money.rounded(sum(one.micros for one in taken_back), code),
        microtokens=sum(one.microtokens for one in taken_back),
    )


def _taken_back(period: Period, *, ends_at: datetime) -> list[TakenBack]:
    """Of each lot what nobody used, at most the share of its life that is left."""
    own = set(_lot_ids(period))
    lots = queries.lots(account_ids=[period.subscription.customer.account_id])
    found = (
        _taken_back_of(lot, period, ends_at=ends_at)
        for lot in lots
        if lot.id in own and lot.kind == "prepaid"
    )
    return [one for one in found if one.microtokens]


def _taken_back_of(lot: LotNow, period: Period, *, ends_at: datetime) -> TakenBack:
    left = periods.share_left(
        lot.granted_microtokens,
        starts_at=lot.effective_at,
        ends_at=period.term_ends_at,
        at=ends_at,
    )
    microtokens = min(left, lot.remaining_microtokens)
    micros = prepaid_slice_micros(
        price_micros=lot.price_micros,
        granted_microtokens=lot.granted_microtokens,
        out_before=lot.out_microtokens,
        out_after=lot.out_microtokens + microtokens,
    )
    return TakenBack(lot=lot, microtokens=microtokens, micros=micros)
