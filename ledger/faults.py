"""What is wrong with a run, field by field: the rules that its shape alone does not say."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ledger.errors import Fault
from ledger.instants import to_us
from ledger.prices import BookPrices
from ledger.reported import NewRun

RUN_AGE_MAX: Final = timedelta(days=3653)
CLOCK_DIFFERENCE_MAX: Final = timedelta(minutes=5)
_CLOCK_DIFFERENCE_US: Final = CLOCK_DIFFERENCE_MAX // timedelta(microseconds=1)
_RUN_AGE_US: Final = RUN_AGE_MAX // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run of a book must keep to."""

    book: BookPrices
    earliest_us: int
    latest_us: int


def bounds_us(at_us: int) -> tuple[int, int]:
    """The earliest and the latest time of a run that is told at `at_us`."""
    return at_us - _RUN_AGE_US, at_us + _CLOCK_DIFFERENCE_US


def find(
    run: NewRun, *, position: int, rules: Rules, account_is_known: bool, cost_centre: str
) -> Iterator[Fault]:
    """Every fault of one run, in the order of its fields."""
    place = f"runs[{position}]"
    if not account_is_known:
        yield Fault(
            field=f"{place}.account", rule="unknown_account", message="names no account of yours"
        )
    elif not cost_centre:
        yield Fault(
            field=f"{place}.cost_centre",
            rule="cost_centre_missing",
            message="is missing, and neither the workflow nor the account has a default",
        )
    yield from _of_outcome(run, place)
    if any("\x00" in text for text in _texts(run)):
        yield Fault(field=place, rule="text", message="has a NUL character in one of its texts")
    yield from _of_instant(to_us(run.occurred_at), f"{place}.occurred_at", rules)
    for number, inference in enumerate(run.inferences):
        inner = f"{place}.inferences[{number}]"
        yield from _of_names(inference.engine, inference.quantities, inner, rules.book)
        if inference.occurred_at is not None and inference.occurred_at != run.occurred_at:
            yield from _of_instant(to_us(inference.occurred_at), f"{inner}.occurred_at", rules)
        yield from _of_parts(inference.quantities, f"{inner}.quantities", rules.book)


def has_good_outcome(run: NewRun) -> bool:
    """Whether what it says of its outcome makes sense."""
    return (run.outcome == "failed") == bool(run.fault) and run.retake_of != run.id


def _of_outcome(run: NewRun, place: str) -> Iterator[Fault]:
    if (run.outcome == "failed") != bool(run.fault):
        yield Fault(
            field=f"{place}.fault",
            rule="fault_of_failed",
            message="goes with the outcome 'failed', and with no other: 'vendor' or 'customer'",
        )
    if run.retake_of == run.id:
        yield Fault(
            field=f"{place}.retake_of", rule="retake_of_itself", message="names the run itself"
        )


def _texts(run: NewRun) -> tuple[str, ...]:
    return (
        run.id, run.workflow, run.project, run.job, run.cost_centre, run.department, run.actor,
        run.retake_of, "" if run.part is None else run.part.id,
    )  # fmt: skip


def _of_instant(instant_us: int, field: str, rules: Rules) -> Iterator[Fault]:
    if instant_us > rules.latest_us:
        yield Fault(field=field, rule="in_the_future", message="is more than 5 minutes ahead of us")
    elif instant_us < rules.earliest_us:
        yield Fault(field=field, rule="too_old", message="is more than ten years ago")


def _of_names(
    engine: str, quantities: Mapping[str, int], place: str, book: BookPrices
) -> Iterator[Fault]:
    if engine not in book.engines:
        yield Fault(
            field=f"{place}.engine",
            rule="unknown_engine",
            message=f"{engine!r} is not registered",
        )
    for meter in quantities:
        if meter not in book.meters:
            yield Fault(
                field=f"{place}.quantities",
                rule="unknown_meter",
                message=f"{meter!r} is not registered",
            )


def _of_parts(quantities: Mapping[str, int], field: str, book: BookPrices) -> Iterator[Fault]:
    """All parts of a meter together are at most the whole."""
    used: dict[str, int] = defaultdict(int)
    for meter, quantity in quantities.items():
        if meter in book.whole_of:
            used[book.whole_of[meter]] += quantity
    for whole, quantity in used.items():
        if quantity > quantities.get(whole, 0):
            yield Fault(
                field=field,
                rule="part_exceeds_whole",
                message=f"{whole!r} counts its parts too, so it can't be less than {quantity}",
            )
