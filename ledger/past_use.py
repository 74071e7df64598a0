"""What an account's runs have used so far: for a limit, which counts from before it was set.

All of the account's runs are read, which takes a while where there are many. No run may be debited
between being read and being counted; but nobody should wait for so long. So nearly all is read
before the shard is locked:

    blocks   1 … 900      901 … 940              941
             read         came meanwhile: read   came then: read once the shard is locked
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Final
from uuid import UUID

import msgspec

from ledger import sql
from ledger.caps import Cap
from ledger.packing import details_text
from ledger.units import ALWAYS, run_key, shard_of

# Before the shard is locked: the second time, only what came while the first took.
_READS_AHEAD: Final = 2
# What decides in which periods a cap counts what: period, time zone, from when, until when.
_Counted = tuple[str, str, datetime, datetime | None]
# Of a run's details its id and its account, and nothing else.
_decode: Final = msgspec.json.Decoder(tuple[str, int, msgspec.Raw, msgspec.Raw]).decode


@dataclass(frozen=True, kw_only=True)
class Used:
    """A row of used_before.sql."""

    workflow: str
    project: str
    job: str
    cost_centre: str
    actor: str
    occurred_at: datetime
    microtokens: int
    micros: int


@dataclass(kw_only=True)
class PastUse:
    """What runs of an account used, by who they were for and between which of these instants."""

    account_id: int
    counted: frozenset[_Counted]
    instants: Sequence[datetime]
    rows: list[Used] = field(default_factory=list)
    read_number: int = 0  # the last block of which it knows

    @staticmethod
    def for_caps(account_id: int, caps: Sequence[Cap]) -> "PastUse":
        """For whoever will count by these caps, or by others of the same periods."""
        _, until_at = _last_block(account_id)
        instants = chain.from_iterable(_instants(cap, until_at) for cap in caps)
        return PastUse(
            account_id=account_id,
            counted=frozenset(map(_counted, caps)),
            instants=sorted(set(instants)),
        )

    def serves(self, caps: Sequence[Cap]) -> bool:
        """Whether these caps can count by it: not if the account has moved meanwhile."""
        return set(map(_counted, caps)) <= self.counted

    def read_ahead(self) -> "PastUse":
        """Read while others debit."""
        for _ in range(_READS_AHEAD):
            self.read()
        return self

    def read(self) -> None:
        """Read what was debited since."""
        last_number, _ = _last_block(self.account_id)
        if not self.instants or last_number == self.read_number:
            return
        self.rows += sql.query(
            Used,
            "used_before",
            shard=shard_of(self.account_id),
            account_id=self.account_id,
            instants=self.instants,
            after_number=self.read_number,
            until_number=last_number,
            run_keys=self._run_keys(last_number) if self.read_number else None,
        )
        self.read_number = last_number

    def _run_keys(self, last_number: int) -> list[UUID]:
        """Of the runs that came since: no index knows in which block a run is."""
        submissions = sql.binary(
            "submissions_of_blocks",
            shard=shard_of(self.account_id),
            after_number=self.read_number,
            until_number=last_number,
        )
        decoded = (
            _decode(details_text(packed, runs_count, position))
            for runs_count, packed in submissions
            for position in range(runs_count)
        )
        return [
            run_key(run_id) for run_id, owner_id, _, _ in decoded if owner_id == self.account_id
        ]


def _last_block(account_id: int) -> tuple[int, datetime]:
    """Its number, and when it was recorded."""
    [(number, recorded_at)] = sql.rows("last_block", shard=shard_of(account_id), never=ALWAYS)
    return number, recorded_at


def _counted(cap: Cap) -> _Counted:
    return cap.period, cap.time_zone, cap.counts_from, cap.until_at


def _instants(cap: Cap, until_at: datetime) -> Iterator[datetime]:
    """When what the cap counts begins and ends, and each of its periods up to the next."""
    ends_at = until_at if cap.until_at is None else min(until_at, cap.until_at)
    start = max(cap.counts_from, cap.period_start(ALWAYS))
    yield start
    while start < ends_at and (following := cap.next_start(start)) is not None:
        start = following
        yield start
    if cap.until_at is not None:
        yield cap.until_at
