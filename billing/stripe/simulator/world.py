"""One request's view of the simulated account: the objects, the instant, and what it causes.

Objects are kept as Stripe would show them without expansion. Names that begin with an underscore
are the simulator's own and are never shown.
"""

import secrets
import string
from dataclasses import dataclass
from typing import Any

from billing.stripe.simulator import deliveries, registry
from billing.stripe.simulator.contract import Contract
from billing.stripe.simulator.errors import InvalidRequest, NotFound, no_such
from billing.stripe.simulator.store import Store

Json = dict[str, Any]

PREFIXES = {
    "billing_portal.session": "bps",
    "charge": "ch",
    "checkout.session": "cs_test",
    "credit_note": "cn",
    "credit_note_line_item": "cnli",
    "customer": "cus",
    "dispute": "du",
    "event": "evt",
    "invoice": "in",
    "invoice_payment": "inpay",
    "item": "li",
    "line_item": "il",
    "payment_intent": "pi",
    "payment_method": "pm",
    "price": "price",
    "product": "prod",
    "refund": "re",
    "setup_intent": "seti",
    "tax.calculation": "taxcalc",
    "tax_id": "txi",
    "webhook_endpoint": "we",
}
ALPHABET = string.ascii_letters + string.digits
LIMIT_DEFAULT, LIMIT_MAX = 10, 100


def random_text(length: int = 24) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


@dataclass(frozen=True, kw_only=True)
class World:
    """`at` is simulated time, whole seconds. The last three are what faults ask for: a card
    refusal, what becomes of a refund, an address for which tax cannot be computed."""

    store: Store
    contract: Contract
    address: str
    at: int
    request_id: str | None = None
    idempotency_key: str | None = None
    decline: str | None = None
    refund: str | None = None
    has_no_tax_location: bool = False

    def new(self, kind: str, **fields: Any) -> Json:
        """An unsaved object: the schema's skeleton with these fields set."""
        known = {"id": f"{PREFIXES[kind]}_{random_text()}", "created": self.at, "livemode": False}
        skeleton = self.contract.skeleton(kind)
        return {**skeleton, **{k: v for k, v in known.items() if k in skeleton}, **fields}

    def part(self, kind: str, *path: str, **fields: Any) -> Json:
        """A part of an object (`part("charge", "outcome")`), empty but for these fields."""
        return {**self.contract.empty_part(kind, *path), **fields}

    def referred(self, kind: str, object_id: str, *, param: str) -> Json:
        """The object that a parameter names."""
        found = self.store.get(object_id)
        if found is None or found["object"] != kind or found.get("deleted"):
            raise no_such(kind, object_id, param=param)
        return found

    def addressed(self, kind: str, object_id: str) -> Json:
        """The object that the address names."""
        found = self.store.get(object_id)
        if found is None or found["object"] != kind:
            raise NotFound(f"No such {kind}: '{object_id}'", code="resource_missing", param="id")
        return found

    def save(self, body: Json, *events: str) -> Json:
        """Keep an object as it is now, and tell those who listen to these types of event."""
        self.store.put(body)
        for event in events:
            self.emit(event, body)
        return body

    def emit(self, event_type: str, body: Json) -> None:
        assert event_type in self.contract.event_types, event_type
        event = self.new(
            "event",
            type=event_type,
            api_version=self.contract.api.api_version,
            data={"object": self.shown(body)},
            request={"id": self.request_id, "idempotency_key": self.idempotency_key},
        )
        self.store.put(event)
        for endpoint in self.store.find("webhook_endpoint", status="enabled"):
            if {event_type, "*"} & set(endpoint["enabled_events"]):
                deliveries.enqueue(
                    self.store,
                    event_id=event["id"],
                    event_type=event_type,
                    endpoint_id=endpoint["id"],
                )

    def shown(self, body: Json) -> Json:
        """An object as an answer shows it."""
        visible = {name: value for name, value in body.items() if not name.startswith("_")}
        worked_out = registry.LOOKS.get(body["object"])
        if worked_out and not body.get("deleted"):
            visible |= worked_out(self, body)
        return visible

    def listed(self, objects: list[Json], params: Json, *, url: str) -> Json:
        """A page of these objects, in the order given."""
        chosen = _created_within(objects, params.get("created"))
        limit = params.get("limit", LIMIT_DEFAULT)
        if not 1 <= limit <= LIMIT_MAX:
            raise InvalidRequest(f"limit must be between 1 and {LIMIT_MAX}", param="limit")
        page, has_more = _page(chosen, params, limit)
        return {
            "object": "list",
            "data": [self.shown(body) for body in page],
            "has_more": has_more,
            "url": url,
        }


def _page(objects: list[Json], params: Json, limit: int) -> tuple[list[Json], bool]:
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise InvalidRequest(
            "You can only provide one of ending_before and starting_after", param="ending_before"
        )
    if after:
        rest = objects[_position(objects, after, "starting_after") + 1 :]
        return rest[:limit], len(rest) > limit
    if before:
        rest = objects[: _position(objects, before, "ending_before")]
        return rest[-limit:], len(rest) > limit
    return objects[:limit], len(objects) > limit


def _position(objects: list[Json], object_id: str, param: str) -> int:
    for position, body in enumerate(objects):
        if body["id"] == object_id:
            return position
    raise no_such("object in this list", object_id, param=param)


def _created_within(objects: list[Json], bounds: int | Json | None) -> list[Json]:
    if bounds is None:
        return objects
    if isinstance(bounds, int):
        bounds = {"gte": bounds, "lte": bounds}
    lowest = max(bounds.get("gte", 0), bounds.get("gt", -1) + 1)
    highest = min(bounds.get("lte", 2**62), bounds.get("lt", 2**62) - 1)
    return [body for body in objects if lowest <= body["created"] <= highest]


def merged_metadata(old: Json | None, given: Json | str | None) -> Json:
    """Metadata after an update: an empty value removes its key, an empty text removes all."""
    if given == "":
        return {}
    merged = {**(old or {}), **(given if isinstance(given, dict) else {})}
    return {key: value for key, value in merged.items() if value != ""}


def unset(params: Json, *names: str) -> Json:
    """The named parameters that were given; an empty text means null."""
    return {name: None if params[name] == "" else params[name] for name in names if name in params}
