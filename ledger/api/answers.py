"""Receipts and batch results as JSON.

Amounts are whole numbers with their unit in the name; `tokens` repeats an amount the way people
read it.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from ledger.instants import from_us
from ledger.packing import InferenceDetails
from ledger.receipts import Correction, Drawn, Receipt, RunResult
from ledger.units import tokens_text


def receipt(of: Receipt) -> dict[str, Any]:
    return {
        "number": of.number,
        "version": of.version,
        "run": of.run_id,
        "account": of.account,
        "occurred_at": instant(of.occurred_at),
        "recorded_at": instant(of.recorded_at),
        "issued_at": None if of.issued_at is None else instant(of.issued_at),
        "workflow": of.workflow,
        "project": of.project,
        "job": of.job,
        "cost_centre": of.cost_centre,
        "department": of.department,
        "actor": of.actor,
        "outcome": of.outcome,
        "fault": of.fault,
        "retake_of": of.retake_of,
        "retaken_by": of.retaken_by,
        "microtokens": of.microtokens,
        "tokens": tokens_text(of.microtokens),
        "cost": [
            {"currency": currency, "micros": micros}
            for currency, micros in sorted(of.micros_by_currency.items())
        ],
        "inferences": [_inference(one) for one in of.inferences],
        "drawn": [_drawn(one) for one in of.drawn],
        "corrections": [_correction(one) for one in of.corrections],
    }


def result(of: RunResult) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": of.run_id, "account": of.account, "status": of.status}
    if of.receipt is not None:
        answer["receipt"] = receipt(of.receipt)
    if of.reason:
        answer["reason"] = of.reason
    return answer


@lru_cache(maxsize=1_024)  # those who are answered together were decided at one instant
def instant(of: datetime) -> str:
    return of.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _inference(of: InferenceDetails) -> dict[str, Any]:
    return {
        "engine": of.engine,
        "occurred_at": instant(from_us(of.occurred_at_us)),
        "quantities": of.quantities,
        "rate_card_version": of.rate_card_version_id,
        "microtokens": of.microtokens,
    }


def _correction(of: Correction) -> dict[str, Any]:
    return {
        "version": of.version,
        "kind": of.kind,
        "recorded_at": instant(of.recorded_at),
        "reason": of.reason,
        "microtokens": of.microtokens,
        "tokens": tokens_text(of.microtokens),
        "micros": of.micros,
    }


def _drawn(of: Drawn) -> dict[str, Any]:
    return {
        "lot": of.lot_id,
        "kind": of.lot_kind,
        "source": of.source,
        "microtokens": of.microtokens,
        "currency": of.currency,
        "micros": of.micros,
        "note": of.note,
    }
