"""The simulator's own interface under /_sim: what tests and people ask of it beside Stripe's API.

    GET    /_sim              versions, simulated time
    POST   /_sim/faults       add a fault (faults.py has the kinds); GET lists, DELETE removes all
    POST   /_sim/async        the bank's late answer: {"payment_intent" | "checkout_session": id,
                              "outcome": "succeeded" | "failed"}
    POST   /_sim/refunds      the bank's last word on a refund: {"refund": id, "outcome":
                              "succeeded" | "failed" | "canceled"}
    POST   /_sim/disputes     a cardholder disputes a payment: {"payment_intent" |
                              "checkout_session": id, "amount": all, "reason": "inquiry" only asks}
    POST   /_sim/disputes/close  {"dispute": id, "outcome": "won" | "lost" | "warning_closed" |
                              "prevented" | "escalated" (an inquiry becomes a dispute)}
    POST   /_sim/tax          {"percent": whole number}: what automatic tax adds
    POST   /_sim/clock        {"advance": seconds} or {"now": unix seconds}; GET tells it
    POST   /_sim/reset        forget everything but the endpoint given at the start
    GET    /_sim/requests     the log, oldest first; ?method=, ?path= (a regular expression)
    GET    /_sim/deliveries   webhook deliveries with their attempts and answers

Bodies are JSON. It is open to whoever reaches this machine's loopback address, and to nobody else.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from billing.stripe.simulator import (
    deliveries,
    disputes,
    faults,
    intents,
    payments,
    refunds,
    taxes,
)
from billing.stripe.simulator.engine import Engine
from billing.stripe.simulator.errors import Refused
from billing.stripe.simulator.faults import InvalidFault
from billing.stripe.simulator.world import World

Json = dict[str, Any]

CLOCK_MAX = 4_102_444_800  # 2100


def answer(
    engine: Engine, method: str, path: str, query: dict[str, str], body: bytes
) -> tuple[int, Json]:
    """Status and body. The caller holds no transaction."""
    work = ROUTES.get((method, path.removeprefix("/_sim").rstrip("/")))
    if work is None:
        return 404, {"error": f"{method} {path} is unknown; /_sim knows {_known()}"}
    try:
        given = json.loads(body or b"{}") if method == "POST" else query
        with engine.store.transaction():
            return 200, work(engine, given)
    except (InvalidFault, ValueError) as error:
        return 400, {"error": str(error)}


def _known() -> str:
    return ", ".join(f"{method} /_sim{path}" for method, path in ROUTES)


def _about(engine: Engine, given: Any) -> Json:
    api = engine.contract.api
    return {"sdk": api.sdk_version, "api_version": api.api_version, "now": engine.now()}


def _add_fault(engine: Engine, given: Any) -> Json:
    fault = faults.checked(given)
    match fault["kind"]:
        case "webhook_hold":
            deliveries.hold(engine.store)
        case "webhook_release":
            deliveries.release(engine.store, order=fault["order"])
        case _:
            fault["id"] = faults.add(engine.store, fault)
    return fault


def _faults(engine: Engine, given: Any) -> Json:
    return {"faults": faults.waiting(engine.store)}


def _remove_faults(engine: Engine, given: Any) -> Json:
    engine.store.run("DELETE FROM fault")
    return {"faults": []}


def _bank_answer(engine: Engine, given: Any) -> Json:
    if not isinstance(given, dict) or given.get("outcome") not in {"succeeded", "failed"}:
        raise InvalidFault("outcome: succeeded or failed")
    world = engine.world()
    intent = _intent_named(engine, given)
    if intent["status"] not in {"processing", "requires_action"}:
        raise InvalidFault(f"{intent['id']} is {intent['status']}: the bank has been asked nothing")
    late = "debit_returned" if intent["status"] == "processing" else "authentication_required"
    refusal = payments.conclude(
        world, intent, refusal=late if given["outcome"] == "failed" else None
    )
    intents.follow(world, intent, refusal)
    return {"payment_intent": intent["id"], "status": intent["status"]}


def _refund_answer(engine: Engine, given: Any) -> Json:
    refund = _named(engine, given, "refund")
    outcome = _one_of(given, "outcome", faults.OUTCOMES)
    return _shown(engine, lambda world: refunds.conclude(world, refund, outcome=outcome))


def _dispute(engine: Engine, given: Any) -> Json:
    intent = _intent_named(engine, given)
    charge = engine.store.get(intent["latest_charge"] or "")
    if charge is None:
        raise InvalidFault(f"{intent['id']} has no charge")
    more = {name: given[name] for name in ("amount", "reason") if name in given}
    if type(more.get("amount", 1)) is not int or not isinstance(more.get("reason", ""), str):
        raise InvalidFault("amount: a whole number; reason: a text")
    return _shown(engine, lambda world: disputes.open_dispute(world, charge, **more))


def _close_dispute(engine: Engine, given: Any) -> Json:
    dispute = _named(engine, given, "dispute")
    outcome = _one_of(given, "outcome", (*sorted(disputes.CLOSED), "escalated"))
    if outcome == "escalated":
        return _shown(engine, lambda world: disputes.escalate(world, dispute))
    return _shown(engine, lambda world: disputes.close(world, dispute, outcome=outcome))


def _tax(engine: Engine, given: Any) -> Json:
    percent = given.get("percent") if isinstance(given, dict) else None
    if type(percent) is not int or not 0 <= percent <= taxes.PERCENT_MAX:
        raise InvalidFault(f"percent: a whole number from 0 to {taxes.PERCENT_MAX}")
    engine.store.set("tax_percent", percent)
    return {"percent": percent}


def _named(engine: Engine, given: Any, kind: str) -> Json:
    found = engine.store.get(str(given.get(kind))) if isinstance(given, dict) else None
    if found is None or found["object"] != kind:
        raise InvalidFault(f"{kind}: must name one that there is")
    return found


def _intent_named(engine: Engine, given: Any) -> Json:
    if not isinstance(given, dict):
        raise InvalidFault("payment_intent or checkout_session: must name one with a payment")
    session = engine.store.get(str(given.get("checkout_session"))) or {}
    intent = engine.store.get(str(given.get("payment_intent") or session.get("payment_intent")))
    if intent is None or intent["object"] != "payment_intent":
        raise InvalidFault("payment_intent or checkout_session: must name one with a payment")
    return intent


def _one_of(given: Json, name: str, choices: Sequence[str]) -> str:
    if given.get(name) not in choices:
        raise InvalidFault(f"{name}: one of {', '.join(choices)}")
    return str(given[name])


def _shown(engine: Engine, work: Callable[[World], Json]) -> Json:
    """What the work made, as Stripe shows it; what it refuses is the caller's mistake."""
    world = engine.world()
    try:
        return world.shown(work(world))
    except Refused as refusal:
        raise InvalidFault(str(refusal)) from refusal


def _clock(engine: Engine, given: Any) -> Json:
    return {"now": engine.now()}


def _set_clock(engine: Engine, given: Any) -> Json:
    if not isinstance(given, dict) or len(given) != 1 or not {"advance", "now"} & set(given):
        raise InvalidFault("exactly one of advance (seconds) and now (unix seconds)")
    now = engine.now()
    [seconds] = given.values()
    if type(seconds) is not int:
        raise InvalidFault(f"{next(iter(given))}: must be a whole number of seconds")
    then = seconds if "now" in given else now + seconds
    if not now <= then <= CLOCK_MAX:
        raise InvalidFault("time only goes forward, and not past the year 2100")
    offset = engine.store.setting("clock_offset", 0)
    engine.store.set("clock_offset", offset + then - now)
    engine.pass_time_inside()
    return {"now": engine.now()}


def _reset(engine: Engine, given: Any) -> Json:
    engine.reset()
    return {"reset": True}


def _requests(engine: Engine, given: Any) -> Json:
    entries = [json.loads(row["body"]) for row in engine.store.rows(LOGGED)]
    method, pattern = given.get("method"), _pattern(given.get("path", ""))
    return {
        "requests": [
            entry
            for entry in entries
            if method in (None, entry["method"]) and pattern.search(entry["path"])
        ]
    }


LOGGED = "SELECT body FROM request ORDER BY id"


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidFault(f"path: {error}") from error


def _deliveries(engine: Engine, given: Any) -> Json:
    rows = [dict(row) for row in engine.store.rows("SELECT * FROM delivery ORDER BY id")]
    waiting = sum(row["due_at"] is not None for row in rows)
    return {"waiting": waiting, "deliveries": rows}


ROUTES = {
    ("GET", ""): _about,
    ("GET", "/clock"): _clock,
    ("POST", "/clock"): _set_clock,
    ("GET", "/faults"): _faults,
    ("POST", "/faults"): _add_fault,
    ("DELETE", "/faults"): _remove_faults,
    ("POST", "/async"): _bank_answer,
    ("POST", "/refunds"): _refund_answer,
    ("POST", "/disputes"): _dispute,
    ("POST", "/disputes/close"): _close_dispute,
    ("POST", "/tax"): _tax,
    ("POST", "/reset"): _reset,
    ("GET", "/requests"): _requests,
    ("GET", "/deliveries"): _deliveries,
}
