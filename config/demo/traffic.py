"""Last month's runs: invented, and the same for everybody who plays the same month."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Any, Final

from config.demo.cast import PARTS, Part


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """What customers have done, by which engine, and how much it reads and writes."""

    code: str
    engine: str
    input_tokens: int  # typical
    output_tokens: int
    weight: int


WORKFLOWS: Final = (
    Workflow(code="triage", engine="atlas-small", input_tokens=1_500, output_tokens=120, weight=60),
    Workflow(
        code="extraction", engine="atlas-small", input_tokens=6_000, output_tokens=400, weight=25
    ),
    Workflow(
        code="arbitration-note",
        engine="atlas-large",
        input_tokens=3_000,
        output_tokens=500,
        weight=15,
    ),
)
PROJECTS: Final = ("autumn", "merger", "backlog", "")
JOBS: Final = {"autumn": "growth", "merger": "growth", "backlog": "service", "": ""}
ACTORS: Final = ("agent-1", "agent-2", "agent-3", "maria", "tomás")
SPREAD_PERCENT: Final = (20, 60, 90, 110, 140, 180)


def runs(
    *, month: datetime, periods: dict[str, tuple[datetime, datetime]], runs_count: int
) -> Iterator[dict[str, Any]]:
    """Runs of all customers as JSON bodies, in order of time.

    `periods` gives each customer's own month: midnight is not the same instant for all.
    """
    return merge(
        *(
            _of_customer(part, month, *periods[part.code], runs_count * part.share_percent // 100)
            for part in PARTS
        ),
        key=lambda run: run["occurred_at"],
    )


def _of_customer(
    part: Part, month: datetime, starts_at: datetime, ends_at: datetime, runs_count: int
) -> Iterator[dict[str, Any]]:
    chance = random.Random(f"{part.code} {month:%Y-%m} {runs_count}")  # noqa: S311  no secret
    apart = (ends_at - starts_at) / runs_count
    workflows = chance.choices(
        WORKFLOWS, weights=[workflow.weight for workflow in WORKFLOWS], k=runs_count
    )
    for number, workflow in enumerate(workflows):
        occurred_at = (starts_at + apart * (number + chance.random())).astimezone(UTC)
        project = chance.choice(PROJECTS)
        yield {
            "id": _time_ordered_id(occurred_at, chance),
            "account": part.code,
            "workflow": workflow.code,
            "project": project,
            "job": JOBS[project],
            "actor": chance.choice(ACTORS),
            "occurred_at": occurred_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "inferences": [
                _inference(workflow, chance) for _ in range(chance.choice((1, 1, 1, 2, 3)))
            ],
        }


def _inference(workflow: Workflow, chance: random.Random) -> dict[str, Any]:
    read = workflow.input_tokens * chance.choice(SPREAD_PERCENT) // 100 + chance.randrange(100)
    return {
        "engine": workflow.engine,
        "quantities": {
            "input_tokens": read,
            "cached_input_tokens": read * chance.choice((0, 0, 30, 70)) // 100,
            "output_tokens": workflow.output_tokens * chance.choice(SPREAD_PERCENT) // 100,
        },
    }


def _time_ordered_id(occurred_at: datetime, chance: random.Random) -> str:
    """A UUID of version 7 (RFC 9562): milliseconds first, so that the index grows at its end."""
    milliseconds = (occurred_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    value = milliseconds << 80 | 0x7 << 76 | chance.getrandbits(12) << 64
    value |= 0b10 << 62 | chance.getrandbits(62)
    return str(uuid.UUID(int=value))
