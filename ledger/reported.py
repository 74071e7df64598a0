"""Runs as their vendor reports them, and what can be said of one without asking anybody."""

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec
from msgspec.structs import astuple

from ledger.packing import FAILED, LAST_PART, NOT_CHARGED, RETAKE, Unusual
from ledger.units import QUANTITY_MAX

INFERENCES_PER_RUN_MAX: Final = 1_000

Name = Annotated[str, msgspec.Meta(max_length=100)]
RequiredName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Quantity = Annotated[int, msgspec.Meta(ge=0, le=QUANTITY_MAX)]


# The collector of cycles need not look at them (`gc`): they come by the thousand and have none.
class NewInference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One submission to an engine. Without a time of its own it takes its run's."""

    engine: RequiredName
    quantities: Annotated[dict[RequiredName, Quantity], msgspec.Meta(min_length=1, max_length=50)]
    occurred_at: Instant | None = None


class NewPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Which part of its run this is. `last` says that the run has ended with it."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    last: bool = False


class NewRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One execution of a workflow, complete or a part of it, as its vendor reports it.

    A run that failed says whose fault it was: the vendor's fault costs nothing, the customer's
    (who cancelled, say) what was used. A retake says which run it does again.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    account: RequiredName
    workflow: RequiredName
    occurred_at: Instant
    inferences: Annotated[
        list[NewInference], msgspec.Meta(min_length=1, max_length=INFERENCES_PER_RUN_MAX)
    ]
    project: Name = ""
    job: Name = ""
    cost_centre: Name = ""
    department: Name = ""
    actor: Name = ""
    outcome: Literal["accepted", "failed"] = "accepted"
    fault: Literal["", "vendor", "customer"] = ""
    retake_of: Annotated[str, msgspec.Meta(max_length=200)] = ""
    part: NewPart | None = None


# The names of workflow, project, job, cost centre, department and actor.
Attribution = tuple[str, str, str, str, str, str]


def attribution_key(attribution: Attribution) -> bytes:
    """16 bytes that stand for who a run is for: a digest of the names, as a list in JSON."""
    return sha256(msgspec.json.encode(attribution)).digest()[:16]


def body(run: NewRun) -> bytes:
    """The run in one spelling, however its body was written."""
    return _spelled(run)


def body_digest(run: NewRun) -> int:
    """64 bits of the run's body: the same run again has the same, another run another."""
    [digest] = body_digests([run])
    return int.from_bytes(digest, "little", signed=True)


def body_digests(runs: Iterable[NewRun]) -> list[bytes]:
    """The same of many, as bytes, little-endian."""
    # Its values in their order: their names would only make it longer.
    return [sha256(_spelled(astuple(run))).digest()[:8] for run in runs]


def flags(run: NewRun) -> int:
    """What is unusual about it, as ledger.packing has it."""
    return (
        (FAILED if run.outcome == "failed" else 0)
        | (NOT_CHARGED if run.fault == "vendor" else 0)
        | (RETAKE if run.retake_of else 0)
        | (LAST_PART if run.part is not None and run.part.last else 0)
    )


def unusual(run: NewRun) -> Unusual | None:
    """The same for its details."""
    part = "" if run.part is None else run.part.id
    if run.outcome == "accepted" and not run.retake_of and not part:
        return None
    return Unusual(outcome=run.outcome, fault=run.fault, retake_of=run.retake_of, part=part)


_spelled: Final = msgspec.msgpack.Encoder(order="deterministic").encode
