"""What the simulator owes Stripe's SDK: addresses, parameters, and the shape of every object.

All of it comes from the installed SDK (`sdk_schema`). A skeleton is an object in which every field
of the schema stands with its emptiest value, so a handler sets only what matters, and every answer
is valid by construction.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from billing.stripe import sdk_schema
from billing.stripe.sdk_schema import Api, Operation

Json = dict[str, Any]

SERVICES = (
    "stripe._charge_service",
    "stripe._credit_note_line_item_service",
    "stripe._credit_note_service",
    "stripe._customer_payment_method_service",
    "stripe._customer_service",
    "stripe._customer_tax_id_service",
    "stripe._dispute_service",
    "stripe._event_service",
    "stripe._invoice_line_item_service",
    "stripe._invoice_payment_service",
    "stripe._invoice_service",
    "stripe._payment_intent_service",
    "stripe._payment_method_service",
    "stripe._price_service",
    "stripe._product_service",
    "stripe._refund_service",
    "stripe._setup_intent_service",
    "stripe._webhook_endpoint_service",
    "stripe.billing_portal._session_service",
    "stripe.checkout._session_line_item_service",
    "stripe.checkout._session_service",
    "stripe.tax._calculation_service",
)


@dataclass(frozen=True, kw_only=True)
class Route:
    """An operation that an address and method lead to, with the ids in the address."""

    operation: Operation
    ids: dict[str, str]


class Contract:
    def __init__(self, api: Api) -> None:
        self.api = api
        # Literal addresses before those with ids: /v1/customers/search is no customer.
        operations = sorted(api.operations, key=lambda operation: operation.path.count("{"))
        self._routes = [
            (operation, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path)))
            for operation in operations
        ]
        event = api.objects["event"]["properties"]["type"]
        self.event_types = frozenset(event.get("enum") or event["x-open-enum"])

    def route(self, method: str, path: str) -> Route | None:
        for operation, pattern in self._routes:
            found = pattern.fullmatch(path)
            if found and operation.method == method:
                return Route(operation=operation, ids=found.groupdict())
        return None

    def skeleton(self, kind: str) -> Json:
        """A new object of this kind, every field as empty as its schema allows."""
        skeleton: Json = self._empty(self.api.objects[kind])
        return {**skeleton, "object": kind}

    def schema_of(self, kind: str) -> Json | None:
        return self.api.objects.get(kind)

    def empty_part(self, kind: str, *path: str) -> Json:
        """An object inside an object of this kind, every field as empty as it may be."""
        schema = self.api.objects[kind]
        for name in path:
            schema = _required_form(schema["properties"][name])
            schema = schema.get("items", schema)
        empty: Json = self._empty(schema)
        return empty

    def _empty(self, schema: Json) -> Any:
        if "$ref" in schema:
            return self._empty(self.api.objects[schema["$ref"].rsplit("/", 1)[1]])
        if "anyOf" in schema:
            return None if {"type": "null"} in schema["anyOf"] else self._empty(schema["anyOf"][0])
        match schema.get("type"):
            case [*_, "null"]:
                return None
            case "object":
                required = schema.get("required", ())
                return {
                    name: self._empty(inner)
                    for name, inner in schema.get("properties", {}).items()
                    if name in required or not _left_out(name, inner)
                }
            case "array":
                return []
        return _empty_scalar(schema)


def _required_form(schema: Json) -> Json:
    """A schema without its null."""
    match schema:
        case {"type": [kind, "null"]}:
            return {**schema, "type": kind}
    return schema


def _left_out(name: str, schema: Json) -> bool:
    """Fields that Stripe leaves out where others are null: includable lists, `deleted`."""
    return name == "deleted" or "data" in schema.get("properties", {})


def _empty_scalar(schema: Json) -> Any:
    for choices in (schema.get("enum"), schema.get("x-open-enum")):
        if choices:
            return choices[0]
    empty = {"boolean": False, "integer": 0, "number": 0, "string": ""}
    return schema.get("const", empty.get(schema.get("type", "")))


_loaded: Final[dict[tuple[str, ...], Contract]] = {}


def load(home: Path | None) -> Contract:
    """The contract, read once a process; its schemas stay in the home folder for the next one."""
    if SERVICES not in _loaded:
        _loaded[SERVICES] = Contract(sdk_schema.read(SERVICES, cache=home and home / "cache"))
    return _loaded[SERVICES]
