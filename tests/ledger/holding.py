"""Builders of holds and limits. Time is fixed: everything happens around NOON unless told."""

from datetime import datetime
from typing import Any

from ledger import accounts, debiting, holds, limits
from ledger.held import HoldNow
from ledger.holds import NewHold
from ledger.limits import LimitNow, NewLimit
from ledger.reported import NewRun
from ledger.units import shard_of
from tests.ledger.builders import NOON, Shop, next_number

MINUTES_15 = holds.LIFE_SECONDS


def new_hold(
    microtokens: int | None = 1, *, run: str = "", account: str = "acme", **more: Any
) -> NewHold:
    return NewHold(
        run=run or f"run-{next_number()}",
        account=account,
        workflow=more.pop("workflow", "review"),
        microtokens=microtokens,
        **more,
    )


def hold(
    shop: Shop, microtokens: int | None = 1, *, run: str = "", at: datetime = NOON, **more: Any
) -> HoldNow:
    asked = new_hold(microtokens, run=run, **more)
    return holds.authorize_one(book_id=shop.book_id, hold=asked, at=at)


def capture(shop: Shop, run: NewRun, *, at: datetime = NOON) -> None:
    """Accept the run under its hold, and debit it."""
    account = accounts.find(book_id=shop.book_id, code=run.account)
    holds.capture(account=account, run=run, at=at)
    debiting.drain_shard(shard=shard_of(account.id), at=at)


def release(shop: Shop, run: str, *, account: str = "acme", at: datetime = NOON) -> HoldNow:
    found = accounts.find(book_id=shop.book_id, code=account)
    return holds.release(account=found, run_id=run, at=at)


def status(shop: Shop, run: str, *, account: str = "acme", at: datetime = NOON) -> str:
    found = accounts.find(book_id=shop.book_id, code=account)
    return holds.find(account=found, run_id=run).status(at)


def available(account_id: int, *, at: datetime = NOON) -> int:
    return holds.available(account_ids=[account_id], at=at)[account_id].available_microtokens


def limit(
    account_id: int, cap: int, *, scope: str = "account", period: str = "day", hard: bool = True,
    at: datetime = NOON, **more: Any,
) -> LimitNow:  # fmt: skip
    new = NewLimit(scope=scope, period=period, cap=cap, hard=hard, **more)  # type: ignore[arg-type]
    key = f"limit-{next_number()}"
    return limits.set_limit(account_id=account_id, limit=new, idempotency_key=key, at=at)


def used(account_id: int, *, at: datetime = NOON) -> dict[str, tuple[int, int]]:
    """{value: (used, held)} of the account's only limit, in the period of `at`."""
    [only] = limits.limits(account_id=account_id, at=at)
    return {use.scope_value: (use.used, use.held) for use in only.uses}
