"""What a limit is counted over: its scope and its period.

    limit on each actor, 10 tokens a day:   actor "ada", 2026-06-15: 4 used, 3 held
                                            actor "bob", 2026-06-15: 9 used
                                            actor "ada", 2026-06-16: …

A limit names a scope (the run, its actor, workflow, project, job, cost centre, or the whole
account) and a value in it; without a value it caps each value by itself. Its period is each run,
day or month (which begin when they do where the account is), or its own whole term. A run that has
no project is in no project: no limit on projects counts it. An actor is whoever ran it: a person,
an agent or a key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from ledger.units import ALWAYS


@dataclass(frozen=True, kw_only=True)
class Cap:
    """A limit: `cap` is in microtokens (of all, or of overage), or in micros of the account's
    currency."""

    id: int
    account_id: int
    scope: str
    scope_value: str
    period: str
    unit: str
    cap: int
    is_hard: bool
    effective_at: datetime
    until_at: datetime | None
    time_zone: str

    def in_force(self, at: datetime) -> bool:
        return self.effective_at <= at and (self.until_at is None or at < self.until_at)

    def value_of(self, names: Mapping[str, str]) -> str | None:
        """Under which value of its scope a run with these names counts; None: under none."""
        if self.scope in ("run", "account"):
            return ""
        value = names[self.scope]
        return value if value and self.scope_value in ("", value) else None

    def amount(self, microtokens: int, micros: int) -> int:
        """What of a run or hold it counts. What is used of overage is read off its lots instead."""
        if self.unit == "overage":
            return 0
        return microtokens if self.unit == "tokens" else micros

    def period_start(self, at: datetime) -> datetime:
        """When the period of an instant began; a limit per run has none."""
        if self.period == "run":
            return ALWAYS
        if self.period == "term":
            return self.effective_at
        day = at.astimezone(ZoneInfo(self.time_zone)).date()
        first = day.replace(day=1) if self.period == "month" else day
        return _midnight(datetime.combine(first, time(0)), self.time_zone)

    def next_start(self, start: datetime) -> datetime | None:
        """When the period after the one that began at `start` begins; None: there is none."""
        if self.period in ("run", "term"):
            return self.until_at if self.period == "term" else None
        day = start.astimezone(ZoneInfo(self.time_zone)).date()
        first = (
            (day.replace(day=28) + timedelta(days=4)).replace(day=1)
            if self.period == "month"
            else day + timedelta(days=1)
        )
        return _midnight(datetime.combine(first, time(0)), self.time_zone)

    @property
    def counts_from(self) -> datetime:
        """A limit counts whole periods, also what was used in its first before it was set."""
        return self.effective_at if self.period == "run" else self.period_start(self.effective_at)

    def counts(self, occurred_at: datetime) -> bool:
        return self.counts_from <= occurred_at and (
            self.until_at is None or occurred_at < self.until_at
        )


def _midnight(local: datetime, time_zone: str) -> datetime:
    # A midnight that a clock skips is the instant at which it does.
    return local.replace(tzinfo=ZoneInfo(time_zone)).astimezone(ALWAYS.tzinfo)
