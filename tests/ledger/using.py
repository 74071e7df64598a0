"""Builders of what tests of usage begin with, beside those of tests.ledger.builders."""

from datetime import datetime, timedelta
from typing import Any

from ledger import catalog, usage
from ledger.intake import NewInference, NewRun
from tests.ledger.builders import NOON, Shop, make_shop, next_number

LONG_AGO = NOON - timedelta(days=400)
LATER = NOON + timedelta(days=400)


def make_shop_of_engines() -> Shop:
    """A shop that knows `gpt` and `claude`, too."""
    shop = make_shop()
    for code in ("gpt", "claude"):
        catalog.create_engine(book_id=shop.book_id, code=code, name=code)
    return shop


def run_of(
    costs: dict[str, int],
    *,
    at: datetime = NOON,
    workflow: str = "review",
    account: str = "acme",
    run_id: str | None = None,
    **more: Any,
) -> NewRun:
    """A run that took these engines."""
    return NewRun(
        id=f"run-{next_number()}" if run_id is None else run_id,
        account=account,
        workflow=workflow,
        occurred_at=at,
        inferences=[
            NewInference(engine=engine, quantities={"executions": cost})
            for engine, cost in costs.items()
        ],
        **more,
    )


def everything(account_id: int, **more):
    return usage.read(account_ids=[account_id], from_at=LONG_AGO, until_at=LATER, **more)
