"""What a block adds to usage totals: by account, time, engine and who the runs are for.

A block carries its totals, packed, so that they are written in the debit's own transaction at
next to no cost; ledger.folding adds the totals of many blocks at once to rows by hour, day and
month, and ledger.usage adds those that are not folded yet whenever it reads.

Time is counted in quarters of an hour: whatever an account's time zone, its hours and days begin
with a quarter (in India half past by UTC, in Nepal a quarter to).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ledger.packing import FAILED, RETAKE, Integers, Rows, pick_rows

QUARTER_US: Final = 900_000_000

TOTAL: Final = np.dtype(
    [
        ("account_id", "<i8"),
        ("attribution_key", "V16"),
        ("quarter", "<i4"),  # of the runs' own time, in quarters of an hour since 1970
        ("engine_id", "<i4"),  # 0: several, told apart when the block is folded
        ("runs_count", "<i4"),
        ("accepted_first_count", "<i4"),  # accepted, and nobody's retake
        ("failed_count", "<i4"),
        ("retakes_count", "<i4"),
        ("microtokens", "<i8"),
        ("micros", "<i8"),
        ("rework_microtokens", "<i8"),  # spent on runs that failed or were retaken
        ("rework_micros", "<i8"),
    ]
)
# What is counted and added up.
AMOUNTS: Final = tuple(TOTAL.names or ())[4:]


def unpack(packed: bytes) -> Rows:
    return np.frombuffer(packed, TOTAL)


def of_runs(runs: Rows, micros: Integers) -> bytes:
    """Totals of RUN rows and what each cost in money, packed. A key may come more than once."""
    quarters = runs["occurred_at_us"] // QUARTER_US
    order = np.argsort(_mixed(runs, quarters))
    runs, quarters, micros = pick_rows(runs, order), quarters[order], micros[order]
    begins = np.flatnonzero(_differs_from_the_one_before(runs, quarters))
    is_run = runs["part"] == 0
    failed = (runs["flags"] & FAILED != 0) & is_run
    retakes = (runs["flags"] & RETAKE != 0) & is_run
    microtokens = runs["microtokens"]
    wasted = runs["flags"] & FAILED != 0
    totals = np.empty(len(begins), TOTAL)
    totals["account_id"] = runs["account_id"][begins]
    totals["attribution_key"] = runs["attribution_key"][begins]
    totals["quarter"] = quarters[begins]
    totals["engine_id"] = runs["engine_id"][begins]
    for name, column in {
        "runs_count": is_run,
        "accepted_first_count": is_run & ~failed & ~retakes,
        "failed_count": failed,
        "retakes_count": retakes,
        "microtokens": microtokens,
        "micros": micros,
        "rework_microtokens": np.where(wasted, microtokens, 0),
        "rework_micros": np.where(wasted, micros, 0),
    }.items():
        totals[name] = np.add.reduceat(column, begins, dtype=np.int64)
    return totals.tobytes()


def of_change(
    *,
    account_id: int,
    attribution_key: bytes,
    occurred_at_us: int,
    engine_id: int,
    runs_count: int = 0,
    accepted_first_count: int = 0,
    failed_count: int = 0,
    retakes_count: int = 0,
    microtokens: int = 0,
    micros: int = 0,
    rework_microtokens: int = 0,
    rework_micros: int = 0,
) -> bytes:
    """What the correction of one run adds (or takes away, where below 0), packed.

    Who it is for, when it occurred and its engine are those of the run's own row. Several
    changes of one block are laid end to end.
    """
    total = np.zeros(1, TOTAL)
    total["attribution_key"] = np.frombuffer(attribution_key, "V16")
    for name, value in {
        "account_id": account_id,
        "quarter": occurred_at_us // QUARTER_US,
        "engine_id": engine_id,
        "runs_count": runs_count,
        "accepted_first_count": accepted_first_count,
        "failed_count": failed_count,
        "retakes_count": retakes_count,
        "microtokens": microtokens,
        "micros": micros,
        "rework_microtokens": rework_microtokens,
        "rework_micros": rework_micros,
    }.items():
        total[name] = value
    return total.tobytes()


def _mixed(runs: Rows, quarters: Integers) -> npt.NDArray[np.uint64]:
    """A number for each run, alike where its key is alike: to bring equal keys together."""
    halves = _halves(runs["attribution_key"])
    mixed = runs["account_id"].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= halves[:, 0]
    mixed += quarters.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= runs["engine_id"].astype(np.uint64) * np.uint64(0x165667B19E3779F9)
    return mixed


def _differs_from_the_one_before(runs: Rows, quarters: Integers) -> npt.NDArray[np.bool_]:
    halves = _halves(runs["attribution_key"])
    differs = np.ones(len(runs), np.bool_)
    differs[1:] = False
    for column in (runs["account_id"], quarters, runs["engine_id"], halves[:, 0], halves[:, 1]):
        differs[1:] |= column[1:] != column[:-1]
    return differs


def _halves(keys: Rows) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)
