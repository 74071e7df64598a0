"""Where each module says what it answers: operations, looks of objects, what `expand` may add."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from billing.stripe.simulator.world import World

Json = dict[str, Any]
Handler = Callable[..., Json]
Look = Callable[["World", Json], Json]

EVERYWHERE = {"expand"}


@dataclass(frozen=True, kw_only=True)
class Answering:
    """The function that carries an operation out, and the parameters it honours."""

    handler: Handler
    takes: frozenset[str]


OPERATIONS: dict[tuple[str, str], Answering] = {}
LOOKS: dict[str, Look] = {}
INCLUDABLE: dict[tuple[str, str], Look] = {}


def operation(method: str, path: str, *, takes: str = "") -> Callable[[Handler], Handler]:
    """Carry out `method path`. `takes` names the parameters honoured; others are refused.

    The function is given the world, the checked parameters, and the ids in the address by name.
    """

    def register(handler: Handler) -> Handler:
        assert (method, path) not in OPERATIONS, f"{method} {path} has two handlers"
        supported = frozenset(takes.split()) | EVERYWHERE
        OPERATIONS[method, path] = Answering(handler=handler, takes=supported)
        return handler

    return register


def look(kind: str) -> Callable[[Look], Look]:
    """Fields of an object that are worked out when it is shown, not stored."""

    def register(function: Look) -> Look:
        LOOKS[kind] = function
        return function

    return register


def includable(kind: str, field: str) -> Callable[[Look], Look]:
    """A field that is only shown when `expand` asks for it."""

    def register(function: Look) -> Look:
        INCLUDABLE[kind, field] = function
        return function

    return register
