"""A hold as it stands: what was asked, and what became of it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger import sql

HoldKey = tuple[int, uuid.UUID]  # the account's id, and the run's key


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldNow:
    """A hold as it stands. What became of it is a list of dates."""

    account_id: int
    run_key: uuid.UUID
    run_id: str
    body_digest: int
    microtokens: int
    micros: int
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str
    life_seconds: int
    asked_at: datetime
    held_at: datetime | None
    expires_at: datetime | None
    claimed_at: datetime | None
    captured_at: datetime | None
    released_at: datetime | None
    lapsed_at: datetime | None
    refused_at: datetime | None
    refusal: str
    review_id: int | None
    limit_ids: list[int]
    counted_microtokens: int
    counted_micros: int
    due_at: datetime | None

    def status(self, at: datetime) -> str:
        """In a word, at an instant. What is over stays over, though the clock be put back."""
        if self.captured_at is not None:
            return "captured"
        if self.released_at is not None:
            return "released"
        if self.refused_at is not None:
            return "refused"
        if self.expires_at is None:
            return "waiting"
        if self.claimed_at is not None:
            return "capturing"
        return "held" if at < self.expires_at and self.lapsed_at is None else "expired"

    @property
    def is_late(self) -> bool:
        """Whether its run came only after the hold's deadline."""
        came_at = self.claimed_at or self.captured_at
        if came_at is None or self.expires_at is None:
            return False
        return self.lapsed_at is not None or came_at >= self.expires_at

    @property
    def is_after_release(self) -> bool:
        """Whether its run came although the hold had been released: work is never lost."""
        return self.captured_at is not None and self.released_at is not None


def known(keys: Sequence[HoldKey]) -> dict[HoldKey, HoldNow]:
    """The holds under these keys."""
    rows = sql.query(
        HoldNow,
        "holds_by_key",
        account_ids=[account_id for account_id, _ in keys],
        run_keys=[run_key for _, run_key in keys],
    )
    return {(row.account_id, row.run_key): row for row in rows}
