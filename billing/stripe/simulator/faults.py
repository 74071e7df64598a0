"""Faults on demand: what networks, Stripe and banks do to a caller, made to happen at will.

    status              answer `status`; with `after_commit`, after having done the work
    reset_before        break the connection without having done anything
    reset_after_commit  do the work, then break the connection without an answer
    delay               wait `seconds` before beginning
    decline             refuse the next payments with `code`
    refund              let the next refunds end with `outcome` a day later: "failed" (they seem to
                        succeed at first), "succeeded" or "canceled" (pending until then)
    tax_location        find no place in the customer's address to compute taxes for
    webhook_duplicate   send the next events twice, at the same time
    webhook_shuffle     gather the next `times` deliveries and send them in reverse order
    webhook_hold        send nothing until webhook_release
    webhook_release     send what was held back; `order`: "same" or "reversed"

A fault strikes `times` requests whose method and path (a regular expression) match, and is gone. An
error from 500 up is remembered under the idempotency key, as Stripe does; 429 never is.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from billing.stripe.simulator.cards import REFUSALS
from billing.stripe.simulator.store import Store

Json = dict[str, Any]

TIMES_MAX = 1_000
SECONDS_MAX = 120
OUTCOMES = ("succeeded", "failed", "canceled")  # of a refund
PAYING = r"/pay$|/confirm$|^/v1/payment_intents$|^/c/pay/|^/i/"

Rule = Callable[[Any], bool]


class InvalidFault(Exception):
    """The request to the simulator's own interface breaks a rule; the text says which."""


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except re.error:
        return False


def _whole(low: int, high: int) -> Rule:
    return lambda value: type(value) is int and low <= value <= high


COMMON: dict[str, tuple[Rule, str]] = {
    "kind": (_text, "a kind of fault"),
    "times": (_whole(1, TIMES_MAX), f"a whole number from 1 to {TIMES_MAX}"),
}
REQUEST: dict[str, tuple[Rule, str]] = {
    **COMMON,
    "path": (_is_pattern, "a regular expression"),
    "method": (lambda value: value in {"*", "GET", "POST", "DELETE"}, "*, GET, POST or DELETE"),
}
KINDS: dict[str, dict[str, tuple[Rule, str]]] = {
    "status": {
        **REQUEST,
        "status": (_whole(400, 599), "an HTTP status from 400 to 599"),
        "after_commit": (lambda value: isinstance(value, bool), "true or false"),
    },
    "reset_before": REQUEST,
    "reset_after_commit": REQUEST,
    "delay": {
        **REQUEST,
        "seconds": (
            lambda value: type(value) in (int, float) and 0 < value <= SECONDS_MAX,
            f"seconds, at most {SECONDS_MAX}",
        ),
    },
    "decline": {
        **REQUEST,
        "code": (lambda value: value in REFUSALS, f"one of {', '.join(REFUSALS)}"),
    },
    "refund": {
        **REQUEST,
        "outcome": (lambda value: value in OUTCOMES, f"one of {', '.join(OUTCOMES)}"),
    },
    "tax_location": REQUEST,
    "webhook_duplicate": {**COMMON, "type": (_is_pattern, "a regular expression")},
    "webhook_shuffle": COMMON,
    "webhook_hold": {"kind": COMMON["kind"]},
    "webhook_release": {
        "kind": COMMON["kind"],
        "order": (lambda value: value in {"same", "reversed"}, "same or reversed"),
    },
}
DEFAULTS: dict[str, Json] = {
    "status": {"status": 500, "after_commit": False},
    "delay": {"seconds": 1},
    "decline": {"code": "generic_decline", "path": PAYING},
    "refund": {"outcome": "failed", "path": "^/v1/refunds$|^/v1/credit_notes$"},
    "tax_location": {"path": "/finalize$"},
    "webhook_duplicate": {"type": ""},
    "webhook_release": {"order": "same"},
}


@dataclass(frozen=True, kw_only=True)
class Mishaps:
    """The faults that strike one request, by kind."""

    faults: dict[str, Json]

    def get(self, kind: str, name: str, default: Any = None) -> Any:
        return self.faults.get(kind, {}).get(name, default)

    def __contains__(self, kind: str) -> bool:
        return kind in self.faults


def checked(given: Any) -> Json:
    """The fault that a request to the simulator's own interface describes. Raises InvalidFault."""
    if not isinstance(given, dict) or given.get("kind") not in KINDS:
        raise InvalidFault(f"kind: one of {', '.join(KINDS)}")
    rules = KINDS[given["kind"]]
    for name, value in given.items():
        if name not in rules:
            raise InvalidFault(f"{name}: unknown for {given['kind']}; it takes {', '.join(rules)}")
        rule, description = rules[name]
        if not rule(value):
            raise InvalidFault(f"{name}: must be {description}")
    anywhere = {"times": 1, "path": "", "method": "POST"}
    return {**anywhere, **DEFAULTS.get(given["kind"], {}), **given}


def add(store: Store, fault: Json) -> int:
    return store.run(
        "INSERT INTO fault (kind, left_over, body) VALUES (?, ?, ?)",
        fault["kind"],
        fault["times"],
        json.dumps(fault),
    )


def waiting(store: Store) -> list[Json]:
    rows = store.rows("SELECT id, left_over, body FROM fault ORDER BY id")
    return [{**json.loads(row["body"]), "id": row["id"], "left": row["left_over"]} for row in rows]


def strike(store: Store, *, method: str, path: str) -> Mishaps:
    """Use up, and return, the faults for this request: the oldest of each kind."""
    struck: dict[str, Json] = {}
    for fault in waiting(store):
        if fault["kind"].startswith("webhook_") or fault["kind"] in struck:
            continue
        if fault["method"] in {"*", method} and re.search(fault["path"], path):
            struck[fault["kind"]] = fault
            _use_up(store, fault)
    return Mishaps(faults=struck)


def strike_event(store: Store, kind: str, event_type: str) -> Json | None:
    """Use up, and return, the oldest fault of this kind for an event of this type."""
    for fault in waiting(store):
        if fault["kind"] == kind and re.search(fault.get("type", ""), event_type):
            _use_up(store, fault)
            return {**fault, "left": fault["left"] - 1}
    return None


def _use_up(store: Store, fault: Json) -> None:
    store.run("UPDATE fault SET left_over = left_over - 1 WHERE id = ?", fault["id"])
    store.run("DELETE FROM fault WHERE id = ? AND left_over <= 0", fault["id"])
