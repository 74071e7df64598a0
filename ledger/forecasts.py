"""When an account's tokens will run out, and what will expire unused.

The basis is use, not balances: the last full weeks, at most four, in the account's own time zone.
A top-up is no negative use, and an expiry is no use. Each day of the week is expected to have its
share of the window's use; what a week may cost lies between the least and the most of the
window's weeks, with their mean as the likeliest. So a forecast is a range, and says what it rests
on; with less than two weeks of use there is none.

The future is drawn from the lots through the very order in which runs will draw on them
(ledger.drawdown), one run a day, at noon: soonest expiry first, rollovers included. So a lot that
expires before its turn comes is neither spent nor counted on.

Everything is whole numbers: a day's share is the difference of two amounts rounded down, as with
slices of a lot, so that a week's days add up to the week.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Final

from ledger import days, queries, usage
from ledger.drawdown import LotState, draw
from ledger.errors import UnknownAccount
from ledger.instants import from_us, to_us
from ledger.models import Account
from ledger.queries import LotNow
from ledger.units import ALWAYS, NEVER, UNBOUNDED_MICROTOKENS, Microtokens, shard_of

DAYS_MIN: Final = 14
WEEKS_MAX: Final = 4
HORIZON_DAYS: Final = 731
_DAYS_OF_WEEK: Final = 7
_NOON: Final = timedelta(hours=12)
_DAY: Final = timedelta(days=1)
# Beyond all lots: what draws on it has found none.
_NOTHING_LEFT: Final = 0


@dataclass(frozen=True, kw_only=True)
class NotEnoughData:
    """No forecast, and why not."""

    days_count: int
    days_needed: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a forecast rests on: the use of whole weeks, [from_on, until_on)."""

    from_on: date
    until_on: date
    weeks_count: int
    week_microtokens_least: Microtokens
    week_microtokens_likely: Microtokens  # the mean, rounded down
    week_microtokens_most: Microtokens


@dataclass(frozen=True, kw_only=True)
class RunOut:
    """The first day whose use the prepaid lots do not cover; None: none within the horizon."""

    earliest_on: date | None
    likely_on: date | None
    latest_on: date | None


@dataclass(frozen=True, kw_only=True)
class Unused:
    """What will be left in a lot when it expires: if most is used, likely, and if least is.

    `likely_rolls_over_microtokens` of it are not lost but roll over. `rolled_from_lot_id` says
    that the lot itself is yet to come, as what rolls over from that one.
    """

    lot_id: int | None
    rolled_from_lot_id: int | None
    expires_at: datetime
    least_microtokens: Microtokens
    likely_microtokens: Microtokens
    most_microtokens: Microtokens
    likely_rolls_over_microtokens: Microtokens


@dataclass(frozen=True, kw_only=True)
class Forecast:
    basis: Basis
    run_out: RunOut
    unused: tuple[Unused, ...]  # lots that expire within the horizon, the soonest first


@dataclass(frozen=True, kw_only=True)
class Supply:
    """A prepaid lot that runs may still draw on, or one that is yet to come.

    `lot_id` is above 0, and unlike every other's.
    """

    lot_id: int
    priority: int
    issued_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    is_paid: bool
    remaining_microtokens: int
    rollover_microtokens_max: int = 0
    rollover_expires_at: datetime | None = None

    @staticmethod
    def of(lot: LotNow) -> "Supply":
        return Supply(
            lot_id=lot.id,
            priority=lot.priority,
            issued_at=lot.issued_at,
            effective_at=lot.effective_at,
            expires_at=lot.expires_at,
            is_paid=lot.price_micros > 0,
            remaining_microtokens=lot.remaining_microtokens,
            rollover_microtokens_max=lot.rollover_microtokens_max,
            rollover_expires_at=lot.rollover_expires_at,
        )


def of_account(*, account_id: int, at: datetime) -> Forecast | NotEnoughData:
    """The forecast of an account as it stands at `at`. Raises UnknownAccount."""
    account = Account.objects.filter(shard=shard_of(account_id), id=account_id).first()
    if account is None:
        raise UnknownAccount(account=str(account_id))
    return forecast(
        daily_microtokens=daily(account_id=account_id, time_zone=account.time_zone, at=at),
        supplies=[
            Supply.of(lot)
            for lot in queries.lots(account_ids=[account_id])
            if lot.kind == "prepaid"
        ],
        time_zone=account.time_zone,
        at=at,
    )


def daily(*, account_id: int, time_zone: str, at: datetime) -> list[int]:
    """Microtokens used on each full day before `at`, the oldest first; none before the first use.

    At most as many days as a forecast rests on. Runs that were voided are not in it.
    """
    today = days.local_date(at, time_zone)
    first = today - timedelta(days=WEEKS_MAX * _DAYS_OF_WEEK)
    from_at, until_at = days.midnight(first, time_zone), days.midnight(today, time_zone)
    lines = usage.read(
        account_ids=[account_id], from_at=from_at, until_at=until_at, granularity="day"
    )
    used = {
        days.local_date(line.begins_at, time_zone): line.microtokens
        for line in lines
        if line.begins_at is not None
    }
    if not usage.read(account_ids=[account_id], from_at=ALWAYS, until_at=from_at):
        first = min(used, default=today)
    return [max(used.get(day, 0), 0) for day in days.dates(first, today)]


def forecast(
    *, daily_microtokens: Sequence[int], supplies: Sequence[Supply], time_zone: str, at: datetime
) -> Forecast | NotEnoughData:
    """The forecast from use, a number for each full day up to yesterday, and from prepaid lots."""
    days_count = len(daily_microtokens)
    if days_count < DAYS_MIN:
        reason = f"{days_count} full days of use are known; a forecast needs {DAYS_MIN}"
        return NotEnoughData(days_count=days_count, days_needed=DAYS_MIN, reason=reason)
    weeks_count = min(days_count // _DAYS_OF_WEEK, WEEKS_MAX)
    window = daily_microtokens[-weeks_count * _DAYS_OF_WEEK :]
    weeks = [
        sum(window[begin : begin + _DAYS_OF_WEEK]) for begin in range(0, len(window), _DAYS_OF_WEEK)
    ]
    today = days.local_date(at, time_zone)
    future = _Future.after(window, time_zone=time_zone, at=at)
    most, likely, least = (
        _play(supplies, future.runs(week), at=at)
        for week in (Fraction(max(weeks)), Fraction(sum(weeks), weeks_count), Fraction(min(weeks)))
    )
    return Forecast(
        basis=Basis(
            from_on=today - timedelta(days=len(window)),
            until_on=today,
            weeks_count=weeks_count,
            week_microtokens_least=Microtokens(min(weeks)),
            week_microtokens_likely=Microtokens(sum(weeks) // weeks_count),
            week_microtokens_most=Microtokens(max(weeks)),
        ),
        run_out=RunOut(
            earliest_on=_run_out_on(most, time_zone),
            likely_on=_run_out_on(likely, time_zone),
            latest_on=_run_out_on(least, time_zone),
        ),
        unused=_unused(most, likely, least, until_at=future.ends_at),
    )


@dataclass(frozen=True, kw_only=True)
class _Future:
    """The days to come: when each one's use is drawn, and its part of a week's."""

    times_us: Sequence[int]
    ends_at: datetime
    # How much of all use is drawn up to and including each day, in parts of a week's `whole`.
    drawn: Sequence[int]
    whole: int

    @staticmethod
    def after(window: Sequence[int], *, time_zone: str, at: datetime) -> "_Future":
        """By the pattern of the window, which ends yesterday; of today what is left of it."""
        pattern = [sum(window[weekday::_DAYS_OF_WEEK]) for weekday in range(_DAYS_OF_WEEK)]
        day_us = _DAY // timedelta(microseconds=1)
        today = days.local_date(at, time_zone)
        left_of_today = days.midnight(today + _DAY, time_zone) - at
        drawn = [pattern[0] * min(left_of_today // timedelta(microseconds=1), day_us)]
        times_us = [to_us(at)]
        for number in range(1, HORIZON_DAYS):
            drawn.append(drawn[-1] + pattern[number % _DAYS_OF_WEEK] * day_us)
            times_us.append(to_us(days.midnight(today + number * _DAY, time_zone) + _NOON))
        return _Future(
            times_us=times_us,
            ends_at=days.midnight(today + HORIZON_DAYS * _DAY, time_zone),
            drawn=drawn,
            whole=max(sum(pattern), 1) * day_us,
        )

    def runs(self, week_microtokens: Fraction) -> list[tuple[int, int]]:
        """(time, microtokens) of each day, if a week costs so much."""
        totals = [int(week_microtokens * drawn / self.whole) for drawn in self.drawn]
        amounts = [after - before for before, after in pairwise([0, *totals])]
        return list(zip(self.times_us, amounts, strict=True))


@dataclass(frozen=True, kw_only=True)
class _Played:
    """One way that things may go."""

    dry_at_us: int | None  # when the first day's use found nothing left
    lots: Sequence[LotState]  # what was left in each when it expired
    rolled: dict[int, int]  # lot -> what of that rolled over


def _play(supplies: Sequence[Supply], runs: Sequence[tuple[int, int]], *, at: datetime) -> _Played:
    lots = [_state(one) for one in supplies if one.remaining_microtokens > 0]
    lots = [lot for lot in lots if lot.expires_at_us > to_us(at)]
    nothing_left = _endless()
    rolled: dict[int, int] = {}
    dry_at_us: int | None = None
    begin = 0
    for rolling in [*_rolling(supplies, at), None]:
        until_us = to_us(NEVER) if rolling is None else _expires_at_us(rolling)
        end = begin + sum(1 for time_us, _ in runs[begin:] if time_us < until_us)
        drawn = draw([*lots, nothing_left], runs[begin:end])
        for (time_us, _), slices in zip(runs[begin:end], drawn, strict=True):
            if dry_at_us is None and any(one.lot_id == _NOTHING_LEFT for one in slices):
                dry_at_us = time_us
        begin = end
        if rolling is not None and until_us <= runs[-1][0]:
            _roll_over(rolling, lots, rolled)
    return _Played(dry_at_us=dry_at_us, lots=lots, rolled=rolled)


def _rolling(supplies: Iterable[Supply], at: datetime) -> list[Supply]:
    """Lots of which something may roll over, in the order in which they expire."""
    rolling = [
        one
        for one in supplies
        if one.rollover_microtokens_max > 0 and one.expires_at is not None and one.expires_at > at
    ]
    return sorted(rolling, key=_expires_at_us)


def _roll_over(supply: Supply, lots: list[LotState], rolled: dict[int, int]) -> None:
    remaining = sum(lot.remaining_microtokens for lot in lots if lot.id == supply.lot_id)
    microtokens = min(remaining, supply.rollover_microtokens_max)
    if microtokens <= 0 or supply.rollover_expires_at is None:
        return
    rolled[supply.lot_id] = microtokens
    lots.append(
        LotState(
            id=-supply.lot_id,
            kind="prepaid",
            priority=supply.priority,
            effective_at_us=_expires_at_us(supply),
            expires_at_us=to_us(supply.rollover_expires_at),
            price_micros=int(supply.is_paid),
            tiers=None,
            issued_at_us=to_us(supply.issued_at),
            granted_microtokens=microtokens,
            out_microtokens=0,
        )
    )


def _state(supply: Supply) -> LotState:
    return LotState(
        id=supply.lot_id,
        kind="prepaid",
        priority=supply.priority,
        effective_at_us=to_us(supply.effective_at),
        expires_at_us=_expires_at_us(supply),
        price_micros=int(supply.is_paid),
        tiers=None,
        issued_at_us=to_us(supply.issued_at),
        granted_microtokens=supply.remaining_microtokens,
        out_microtokens=0,
    )


def _endless() -> LotState:
    return LotState(
        id=_NOTHING_LEFT,
        kind="debt",
        priority=0,
        effective_at_us=to_us(ALWAYS),
        expires_at_us=to_us(NEVER),
        price_micros=0,
        tiers=None,
        issued_at_us=to_us(ALWAYS),
        granted_microtokens=UNBOUNDED_MICROTOKENS,
        out_microtokens=0,
    )


def _expires_at_us(supply: Supply) -> int:
    return to_us(NEVER if supply.expires_at is None else supply.expires_at)


def _run_out_on(played: _Played, time_zone: str) -> date | None:
    if played.dry_at_us is None:
        return None
    return days.local_date(from_us(played.dry_at_us), time_zone)


def _unused(
    most: _Played, likely: _Played, least: _Played, *, until_at: datetime
) -> tuple[Unused, ...]:
    """Of lots that expire before `until_at`; the more is used, the less is left."""
    expiries = {
        lot.id: lot.expires_at_us
        for played in (most, likely, least)
        for lot in played.lots
        if lot.expires_at_us < to_us(until_at)
    }
    left = [
        {lot.id: lot.remaining_microtokens for lot in played.lots}
        for played in (most, likely, least)
    ]
    found = []
    for lot_id, expires_at_us in sorted(expiries.items(), key=lambda item: item[1]):
        if_most, if_likely, if_least = (of_way.get(lot_id, 0) for of_way in left)
        found.append(
            Unused(
                lot_id=lot_id if lot_id > 0 else None,
                rolled_from_lot_id=-lot_id if lot_id < 0 else None,
                expires_at=from_us(expires_at_us),
                least_microtokens=Microtokens(if_most),
                likely_microtokens=Microtokens(if_likely),
                most_microtokens=Microtokens(if_least),
                likely_rolls_over_microtokens=Microtokens(likely.rolled.get(lot_id, 0)),
            )
        )
    return tuple(found)
