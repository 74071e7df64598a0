"""Refusals, in the shape in which Stripe says them: type, code, message, param."""

from typing import Any


class Refused(Exception):
    """The request is answered with an error. What it did is undone, unless `keeps_effects`."""

    status = 400
    type = "invalid_request_error"
    keeps_effects = False

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, **more: Any
    ) -> None:
        super().__init__(message)
        facts = {"type": self.type, "code": code, "message": message, "param": param, **more}
        self.body = {"error": {name: fact for name, fact in facts.items() if fact is not None}}


class InvalidRequest(Refused):
    """The parameters break a rule, or the object is not in a state for this."""


class InvalidParameters(InvalidRequest):
    """The parameters break the schema. Nothing began, so no idempotency key remembers it."""


class NotFound(Refused):
    """The address names an object that does not exist."""

    status = 404


class Unsupported(Refused):
    """Stripe may know this; the simulator does not, and would have to guess."""

    def __init__(self, what: str, *, param: str | None = None) -> None:
        super().__init__(
            f"the simulator does not support {what}: see DIFFERENCES.md beside it",
            code="simulator_unsupported",
            param=param,
        )


class NotAuthenticated(Refused):
    status = 401


class IdempotencyMismatch(Refused):
    """The key was used for another request."""

    type = "idempotency_error"


class IdempotencyKeyInUse(Refused):
    """Another request with this key is being carried out at this moment."""

    status = 409


class RateLimited(Refused):
    status = 429


class Broken(Refused):
    """What Stripe answers when Stripe is at fault."""

    status = 500
    type = "api_error"


class CardRefused(Refused):
    """The payment was refused. The attempt is a fact and stays: charge, events, error."""

    status = 402
    type = "card_error"
    keeps_effects = True


def no_such(kind: str, object_id: str, *, param: str) -> InvalidRequest:
    """A parameter names an object that does not exist."""
    return InvalidRequest(f"No such {kind}: '{object_id}'", code="resource_missing", param=param)
