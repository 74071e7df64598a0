"""Runs of several engines: what each of them cost.

A block's totals name one engine, or none (0) for runs that took several: what each cost is in the
runs' details. Here it is moved, engine by engine, from 0 to where it belongs; what is moved adds
up to nothing, so no sum changes. Tokens are exact: they are those of the inferences. Money, which
a run costs as a whole, is shared out by those tokens, each engine's up to and including the next
rounded down. *Counts* of such runs stay with 0: a run is one run, however many engines it took.

What a correction adds or takes away is shared out in the same way, by the tokens of the run's
inferences.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from ledger import sql
from ledger.instants import to_us
from ledger.models import Account, Engine, Submission
from ledger.packing import FAILED, Rows, unpack_details
from ledger.totals import QUARTER_US, TOTAL, unpack

# Who a run is for, and when: (account id, attribution key, quarter of an hour).
_Place = tuple[int, bytes, int]
_Engines = Mapping[tuple[int, str], int]  # (account id, the engine's code) -> the engine's id
_MOVED: Final = ("microtokens", "micros", "rework_microtokens", "rework_micros")


@dataclass(frozen=True, kw_only=True)
class BlockTotals:
    """A block, as far as usage goes."""

    shard: int
    number: int
    corrections_count: int
    totals: Rows

    @staticmethod
    def of(row: tuple[int, int, int, bytes]) -> "BlockTotals":
        shard, number, corrections_count, totals = row
        return BlockTotals(
            shard=shard, number=number, corrections_count=corrections_count, totals=unpack(totals)
        )


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A row of runs_of_several_engines.sql."""

    account_id: int
    attribution_key: uuid.UUID
    occurred_at: datetime
    microtokens: int
    micros: int
    flags: int
    submission_id: int
    submission_position: int


@dataclass(frozen=True, kw_only=True)
class CorrectedRow:
    """A row of corrected_of_several_engines.sql."""

    block_number: int
    account_id: int
    attribution_key: uuid.UUID
    occurred_at: datetime
    submission_id: int
    submission_position: int


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` by weights, in whole numbers that add up to it; a negative one as if it were not.

    >>> share_out(100, [1, 1, 1]), share_out(-100, [1, 1, 1])
    ([33, 33, 34], [-33, -33, -34])
    """
    whole = sum(weights)
    if whole == 0:
        return [total, *[0] * (len(weights) - 1)]
    shares, weighed, shared = [], 0, 0
    for weight in weights:
        weighed += weight
        until = abs(total) * weighed // whole
        shares.append(until - shared if total >= 0 else shared - until)
        shared = until
    return shares


def told_apart(blocks: Sequence[BlockTotals], *, account_ids: Sequence[int] | None = None) -> Rows:
    """What blocks of one shard, one after another, add to usage: TOTAL rows, engine by engine.

    With `account_ids`, of these accounts only.
    """
    added = np.concatenate([block.totals for block in blocks])
    if account_ids is not None:
        added = added[np.isin(added["account_id"], account_ids)]
    if not np.any(added["engine_id"] == 0):
        return added
    return np.concatenate([added, _moves(blocks, account_ids)])


def _moves(blocks: Sequence[BlockTotals], account_ids: Sequence[int] | None) -> Rows:
    parameters = {
        "shard": blocks[0].shard,
        "after_number": blocks[0].number - 1,
        "until_number": blocks[-1].number,
        "account_ids": None if account_ids is None else list(account_ids),
    }
    runs = sql.query(RunRow, "runs_of_several_engines", **parameters)
    corrected = sql.query(CorrectedRow, "corrected_of_several_engines", **parameters)
    weights = _weights(blocks[0].shard, [*runs, *corrected])
    moves: dict[_Place, dict[int, list[int]]] = defaultdict(dict)
    for run in runs:
        cost = (run.microtokens, run.micros)
        rework = cost if run.flags & FAILED else (0, 0)
        place = _place(run)
        _move(moves[place], (*cost, *rework), weights[run.submission_id, run.submission_position])
    _move_corrections(moves, blocks, corrected, weights)
    return _packed(moves)


def _move_corrections(
    moves: dict[_Place, dict[int, list[int]]],
    blocks: Sequence[BlockTotals],
    corrected: Sequence[CorrectedRow],
    weights: Mapping[tuple[int, int], Mapping[int, int]],
) -> None:
    """A block of corrections says how much; the runs it corrects, which engines."""
    of_place: dict[tuple[int, _Place], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in corrected:
        known = of_place[row.block_number, _place(row)]
        for engine_id, weight in weights[row.submission_id, row.submission_position].items():
            known[engine_id] += weight
    for block in blocks:
        if block.corrections_count:
            for total in block.totals[block.totals["engine_id"] == 0]:
                place = (
                    int(total["account_id"]),
                    total["attribution_key"].tobytes(),
                    int(total["quarter"]),
                )
                if (block.number, place) in of_place:
                    amounts = tuple(int(total[name]) for name in _MOVED)
                    _move(moves[place], amounts, of_place[block.number, place])


def _move(moved: dict[int, list[int]], amounts: Sequence[int], weights: Mapping[int, int]) -> None:
    """Take amounts from engine 0 and share them out."""
    engine_ids = sorted(weights)
    shares = [share_out(amount, [weights[one] for one in engine_ids]) for amount in amounts]
    _add(moved, 0, [-amount for amount in amounts])
    for position, engine_id in enumerate(engine_ids):
        _add(moved, engine_id, [of_amount[position] for of_amount in shares])


def _add(moved: dict[int, list[int]], engine_id: int, amounts: Sequence[int]) -> None:
    known = moved.get(engine_id, [0] * len(amounts))
    moved[engine_id] = [one + more for one, more in zip(known, amounts, strict=True)]


def _place(row: RunRow | CorrectedRow) -> _Place:
    quarter = to_us(row.occurred_at) // QUARTER_US
    return row.account_id, row.attribution_key.bytes, quarter


def _weights(
    shard: int, rows: Iterable[RunRow | CorrectedRow]
) -> dict[tuple[int, int], dict[int, int]]:
    """For the run at each (submission id, position): its tokens by engine."""
    positions: dict[int, set[int]] = defaultdict(set)
    account_ids = set()
    for row in rows:
        positions[row.submission_id].add(row.submission_position)
        account_ids.add(row.account_id)
    engines = _engines(shard, account_ids)
    found: dict[tuple[int, int], dict[int, int]] = {}
    for submission in Submission.objects.filter(shard=shard, id__in=list(positions)).iterator():
        wanted = sorted(positions[submission.id])
        details = unpack_details(bytes(submission.details), submission.runs_count, wanted)
        for position, one in zip(wanted, details, strict=True):
            weights: dict[int, int] = defaultdict(int)
            for inference in one.inferences:
                weights[engines[one.account_id, inference.engine]] += inference.microtokens
            found[submission.id, position] = weights
    return found


def _engines(shard: int, account_ids: Iterable[int]) -> _Engines:
    accounts = Account.objects.filter(shard=shard, id__in=list(account_ids))
    books = dict(accounts.values_list("id", "book_id"))
    of_book: dict[int, list[tuple[str, int]]] = defaultdict(list)
    known = Engine.objects.filter(book_id__in=set(books.values()))
    for book_id, code, engine_id in known.values_list("book_id", "code", "id"):
        of_book[book_id].append((code, engine_id))
    return {
        (account_id, code): engine_id
        for account_id, book_id in books.items()
        for code, engine_id in of_book[book_id]
    }


def _packed(moves: Mapping[_Place, Mapping[int, Sequence[int]]]) -> Rows:
    keys: list[bytes] = []
    rows: list[tuple[int, ...]] = []
    for (account_id, key, quarter), engines in moves.items():
        for engine_id, amounts in engines.items():
            keys.append(key)
            rows.append((account_id, quarter, engine_id, *amounts))
    packed = np.zeros(len(rows), TOTAL)
    if rows:
        packed["attribution_key"] = np.frombuffer(b"".join(keys), "V16")
        names = ("account_id", "quarter", "engine_id", *_MOVED)
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            packed[name] = column
    return packed
