"""The official SDK, watched: every answer it gets is checked against its own source's schemas."""

import json
import re
from functools import cache
from typing import Any

import stripe
from jsonschema import Draft202012Validator

from billing.stripe.sdk_schema import Operation
from billing.stripe.simulator.contract import Contract
from billing.stripe.simulator.contract import load as load_contract

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {
                    "enum": [
                        "api_error",
                        "card_error",
                        "idempotency_error",
                        "invalid_request_error",
                    ]
                },
                "code": {"type": "string"},
                "decline_code": {"type": "string"},
                "message": {"type": "string", "minLength": 1},
                "param": {"type": "string"},
                "payment_intent": {"$ref": "#/objects/payment_intent"},
            },
        }
    },
}
DELETED = {
    "type": "object",
    "required": ["id", "object", "deleted"],
    "properties": {"deleted": {"const": True}},
    "additionalProperties": {"type": "string"},
}


@cache
def contract() -> Contract:
    return load_contract(None)


def _validator(method: str, path: str) -> Draft202012Validator:
    operation = _operation(method, path)
    return _validator_of(json.dumps(operation.answer, sort_keys=True))


@cache
def _validator_of(answer: str) -> Draft202012Validator:
    return Draft202012Validator(contract().api.validated_by(json.loads(answer)))


@cache
def _object_validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(contract().api.validated_by({"$ref": f"#/objects/{kind}"}))


def _operation(method: str, path: str) -> Operation:
    route = contract().route(method, path)
    assert route is not None, f"{method} {path}"
    return route.operation


def check_object(body: dict[str, Any]) -> None:
    """An object of Stripe's, as events carry it."""
    schema_errors(_object_validator(body["object"]), body)


def schema_errors(validator: Draft202012Validator, body: Any) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]
    assert not errors, "\n".join(errors)


def check_answer(method: str, path: str, status: int, body: Any) -> None:
    if status >= 400:
        whole = contract().api.validated_by(ERROR)
        schema_errors(Draft202012Validator(whole), body)
    elif body.get("deleted"):
        schema_errors(Draft202012Validator(DELETED), body)
    else:
        schema_errors(_validator(method, path), body)


class CheckedHTTP(stripe.RequestsClient):
    """The SDK's own transport; what comes back must be what its types promise."""

    def request(
        self, method: str, url: str, headers: Any, post_data: Any = None, **more: Any
    ) -> Any:
        content, status, answered = super().request(method, url, headers, post_data, **more)
        path = re.sub(r"^https?://[^/]+|\?.*$", "", url)
        check_answer(method.upper(), path, status, json.loads(content))
        return content, status, answered


def client(address: str, *, retries: int = 0) -> stripe.StripeClient:
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        "sk_test_contract",
        stripe_version=contract().api.api_version,
        max_network_retries=retries,
        http_client=CheckedHTTP(timeout=(3.05, 25)),
        base_addresses={"api": address, "files": address, "connect": address},
    )
