"""Write corrections of runs: any number of one shard, in one transaction and one block.

A correction moves tokens by entries on lots. What is given back goes home, to the lot it was drawn
from: what is out of that lot shrinks, whoever drew last. A lot whose time is over keeps nothing:
what comes back to it expires again at once. Debt shrinks; where it has been repaid since, the lots
that repaid it, the latest first, get that back beforehand, as a repayment the other way round.
What is charged is drawn as by a run of the run's own time.

Each correction is the next version of its run's receipt, sealed in a block and added to usage, in
the time of the run itself.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ledger import amends, chain, sql, totals
from ledger.amends import Amends, Changed, Leaf, Moved
from ledger.drawdown import LotState, draw
from ledger.history import History, RunName, RunRow, histories
from ledger.instants import to_us
from ledger.leaves import RUNS_PER_LEAF
from ledger.models import Correction, Entry, Lot, Operation
from ledger.units import NEVER
from ledger.value import Tiers

NOBODY: Final = uuid.UUID(int=0)  # the digest of what nobody asked for under a key


@dataclass(frozen=True, kw_only=True)
class Written:
    """A correction that has been written."""

    name: RunName
    version: int
    microtokens: int
    micros: int


@dataclass(kw_only=True, slots=True)
class _Lots:
    """An account's lots while corrections move them."""

    states: dict[int, LotState]
    over: set[int]  # their time is: what comes back to them expires
    debt_id: int
    moved: set[int] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class _Entered:
    """An entry to be written. Without a part it is no run's."""

    account_id: int
    moved: Moved
    run_key: uuid.UUID
    part: int | None
    operation_key: str


class Amending:
    """Corrections of one shard. The caller holds its lock, and ends with `write`."""

    def __init__(self, *, shard: int, names: Sequence[RunName], at: datetime) -> None:
        self.shard = shard
        self.at = at
        self.histories = histories(shard=shard, names=names)
        self._lots: dict[int, _Lots] = {}
        self._entries: list[_Entered] = []
        self._rows: list[Correction] = []
        self._totals: list[bytes] = []

    def correct(
        self,
        history: History,
        *,
        kind: str,
        operation_key: str,
        digest: uuid.UUID = NOBODY,
        give_back: int = 0,
        charge: int = 0,
        **said: Any,
    ) -> Written:
        """One correction: what moves, in microtokens, and what it says (ledger.amends)."""
        before = _Counted.of(history)
        draft = _Draft(
            history=history, lots=self._lots_of(history) if give_back or charge else None
        )
        if give_back:
            draft.give_back(give_back, repayments=self._repayments)
        if charge:
            draft.charge(charge)
        correction = Amends(kind=kind, entries=draft.entries, changes=draft.changes(), **said)
        history.amend(correction)
        self._enter(history, draft)
        self._totals += before.changes(_Counted.of(history))
        self._rows.append(
            Correction(
                shard=self.shard,
                account_id=history.own.account_id,
                run_key=history.own.run_key,
                version=history.version,
                kind=kind,
                operation_key=operation_key,
                digest=digest,
                recorded_at=self.at,
                microtokens=sum(microtokens for _, microtokens, _ in correction.changes),
                micros=sum(micros for _, _, micros in correction.changes),
                details=amends.encode(correction),
            )
        )
        return _written(self._rows[-1])

    def write(self) -> list[Written]:
        """Write everything: entries, lots, corrections, and the block that seals them."""
        if not self._rows:
            return []
        self._write_entries()
        self._write_lots()
        head = chain.head(self.shard)
        for leaf, row in enumerate(self._rows):
            row.block_number, row.block_position = head.number + 1, RUNS_PER_LEAF * leaf
        Correction.objects.bulk_create(self._rows)
        chain.append(
            self.shard,
            head,
            leaves=[_leaf(row).hash() for row in self._rows],
            corrections_count=len(self._rows),
            microtokens=sum(row.microtokens for row in self._rows),
            micros=sum(row.micros for row in self._rows),
            totals=b"".join(self._totals),
            at=self.at,
        )
        return [_written(row) for row in self._rows]

    def _lots_of(self, history: History) -> _Lots:
        """The account's lots; the one in use is put away: their rows are the whole truth."""
        account_id = history.own.account_id
        if account_id not in self._lots:
            sql.execute("put_away_lots", shard=self.shard, account_ids=[account_id])
            rows = list(Lot.objects.filter(shard=self.shard, account_id=account_id))
            [debt] = [row.id for row in rows if row.kind == Lot.Kind.DEBT]
            self._lots[account_id] = _Lots(
                states={row.id: _state(row) for row in rows},
                over=self._over(rows),
                debt_id=debt,
            )
        return self._lots[account_id]

    def _over(self, rows: Sequence[Lot]) -> set[int]:
        """A lot that was closed is, though the clock be put back: it is not closed again."""
        ends = {row.id: row.closes_at for row in rows if row.kind == Lot.Kind.PREPAID}
        over = {lot_id for lot_id, at in ends.items() if at is not None and at <= self.at}
        empty = [row for row in rows if row.granted_microtokens == row.out_microtokens]
        if doubtful := [row for row in empty if ends.get(row.id) and row.id not in over]:
            closings = Operation.objects.filter(
                shard=self.shard, account_id=doubtful[0].account_id, kind="close"
            ).filter(lot_id__in=[row.id for row in doubtful])
            over.update(closings.values_list("lot_id", flat=True))
        return over

    def _repayments(self, account_id: int, debt_lot_id: int) -> dict[int, int]:
        """What each lot repaid of the debt and still has not back, the latest first."""
        repaid: dict[int, int] = dict(
            sql.rows("repayments", shard=self.shard, account_id=account_id, debt_lot_id=debt_lot_id)
        )
        for one in self._entries:
            kind, lot_id, _, microtokens = one.moved
            if kind == Entry.Kind.REPAID and one.account_id == account_id:
                repaid[lot_id] -= microtokens
        return repaid

    def _enter(self, history: History, draft: "_Draft") -> None:
        account_id, run_key = history.name
        key = f"correction:{run_key}:{history.version}"
        self._entries += [
            _Entered(
                account_id=account_id, moved=moved, run_key=run_key, part=part, operation_key=key
            )
            for moved, part in zip(draft.entries, draft.parts, strict=True)
        ]

    def _write_entries(self) -> None:
        moved = [one.moved for one in self._entries]
        if not moved:
            return
        sql.execute(
            "enter_corrections",
            shard=self.shard,
            occurred_at=self.at,
            account_ids=[one.account_id for one in self._entries],
            kinds=[kind for kind, _, _, _ in moved],
            lot_ids=[lot_id for _, lot_id, _, _ in moved],
            out_before_microtokens=[out_before for _, _, out_before, _ in moved],
            microtokens=[microtokens for _, _, _, microtokens in moved],
            run_keys=[None if one.part is None else one.run_key for one in self._entries],
            parts=[one.part for one in self._entries],
            operation_keys=[one.operation_key for one in self._entries],
        )

    def _write_lots(self) -> None:
        moved = {
            lot_id: lots.states[lot_id].out_microtokens
            for lots in self._lots.values()
            for lot_id in lots.moved
        }
        if moved:
            sql.execute(
                "move_lots",
                shard=self.shard,
                lot_ids=list(moved),
                out_microtokens=list(moved.values()),
            )


@dataclass(kw_only=True)
class _Draft:
    """The entries of one correction, in order, and whose they are."""

    history: History
    lots: _Lots | None
    entries: list[Moved] = field(default_factory=list)
    parts: list[int | None] = field(default_factory=list)
    micros: dict[int, int] = field(default_factory=dict)
    microtokens: dict[int, int] = field(default_factory=dict)

    def give_back(self, microtokens: int, *, repayments: Any) -> None:
        """Take this much from the front of the run's line, each piece back to its lot."""
        assert self.lots is not None
        assert 0 < microtokens <= self.history.left_microtokens
        for piece in self.history.pieces:
            given = min(piece.microtokens, microtokens)
            if given:
                self._make_owed(piece.lot_id, given, repayments=repayments)
                self._return(piece.lot_id, given, part=piece.part)
                self._expire_again(piece.lot_id, given)
                piece.microtokens -= given
                microtokens -= given
        self.history.drop_empty_pieces()

    def charge(self, microtokens: int) -> None:
        """Draw this much more, from the lots that serve the run's own time."""
        assert self.lots is not None
        occurred_at_us = to_us(self.history.own.occurred_at)
        [slices] = draw(self.lots.states.values(), [(occurred_at_us, microtokens)])
        for one in slices:
            self._add(
                (Entry.Kind.CHARGE, one.lot_id, one.out_before_microtokens, one.microtokens),
                part=0,
                micros=one.micros,
            )
            self.history.add_piece(lot_id=one.lot_id, microtokens=one.microtokens)

    def changes(self) -> list[Changed]:
        return [(part, self.microtokens[part], self.micros[part]) for part in self.microtokens]

    def _return(self, lot_id: int, microtokens: int, *, part: int) -> None:
        out = self._state(lot_id).out_microtokens
        micros = self._state(lot_id).move_to(out - microtokens)
        self._add((Entry.Kind.RETURN, lot_id, out, microtokens), part=part, micros=micros)

    def _expire_again(self, lot_id: int, microtokens: int) -> None:
        assert self.lots is not None
        if lot_id in self.lots.over:
            out = self._state(lot_id).out_microtokens
            self._state(lot_id).move_to(out + microtokens)
            self._add((Entry.Kind.EXPIRE, lot_id, out, microtokens), part=None)

    def _make_owed(self, lot_id: int, microtokens: int, *, repayments: Any) -> None:
        """Debt that was repaid since is owed again, and the lots that repaid it have it back."""
        assert self.lots is not None
        debt = self.lots.states[self.lots.debt_id]
        missing = microtokens - debt.out_microtokens
        if lot_id != debt.id or missing <= 0:
            return
        repaid: Mapping[int, int] = repayments(self.history.own.account_id, debt.id)
        for repaying_id, most in repaid.items():
            given = min(most - self._given_back(repaying_id), missing)
            if given > 0:
                self._give_repayment_back(repaying_id, given, debt)
                self._expire_again(repaying_id, given)
                missing -= given
        assert missing == 0, "what a debt lacks was repaid"

    def _given_back(self, lot_id: int) -> int:
        return sum(
            microtokens
            for kind, of_lot, _, microtokens in self.entries
            if kind == Entry.Kind.REPAID and of_lot == lot_id
        )

    def _give_repayment_back(self, repaying_id: int, microtokens: int, debt: LotState) -> None:
        out = self._state(repaying_id).out_microtokens
        self._state(repaying_id).move_to(out - microtokens)
        self._add((Entry.Kind.REPAID, repaying_id, out, microtokens), part=None)
        owed = debt.out_microtokens
        debt.move_to(owed + microtokens)
        self._add((Entry.Kind.REPAY, debt.id, owed, microtokens), part=None)

    def _state(self, lot_id: int) -> LotState:
        assert self.lots is not None
        return self.lots.states[lot_id]

    def _add(self, moved: Moved, *, part: int | None, micros: int = 0) -> None:
        assert self.lots is not None
        kind, lot_id, _, microtokens = moved
        self.entries.append((str(kind), *moved[1:]))
        self.parts.append(part)
        self.lots.moved.add(lot_id)
        if part is not None:
            sign = -1 if kind == Entry.Kind.RETURN else 1
            self.microtokens[part] = self.microtokens.get(part, 0) + sign * microtokens
            self.micros[part] = self.micros.get(part, 0) + micros


# What usage counts of a row: microtokens, micros, and the same of rework.
_Amounts = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """What a run and its parts are in usage totals, at one version."""

    history: History
    accepted_first: bool
    failed: bool
    amounts: dict[int, _Amounts]

    @staticmethod
    def of(history: History) -> "_Counted":
        return _Counted(
            history=history,
            accepted_first=history.counts_as_accepted_first,
            failed=history.has_failed,
            amounts={row.part: _amounts(history, row) for row in history.rows},
        )

    def changes(self, after: "_Counted") -> list[bytes]:
        return [
            change for row in self.history.rows if (change := self._change(row, after)) is not None
        ]

    def _change(self, row: RunRow, after: "_Counted") -> bytes | None:
        amounts = [
            new - old
            for new, old in zip(after.amounts[row.part], self.amounts[row.part], strict=True)
        ]
        is_run = row.part == 0
        accepted_first = (after.accepted_first - self.accepted_first) if is_run else 0
        failed = (after.failed - self.failed) if is_run else 0
        if not (any(amounts) or accepted_first or failed):
            return None
        return totals.of_change(
            account_id=row.account_id,
            attribution_key=row.attribution_key.bytes,
            occurred_at_us=to_us(row.occurred_at),
            engine_id=row.engine_id,
            accepted_first_count=accepted_first,
            failed_count=failed,
            microtokens=amounts[0],
            micros=amounts[1],
            rework_microtokens=amounts[2],
            rework_micros=amounts[3],
        )


def _amounts(history: History, row: RunRow) -> _Amounts:
    net = history.net[row.part]
    if history.is_rework(row):
        return net.microtokens, net.micros, net.microtokens, net.micros
    return net.microtokens, net.micros, 0, 0


def _state(row: Lot) -> LotState:
    return LotState(
        id=row.id,
        kind=row.kind,
        priority=row.priority,
        effective_at_us=to_us(row.effective_at),
        expires_at_us=to_us(NEVER if row.expires_at is None else row.expires_at),
        price_micros=row.price_micros,
        tiers=None if row.tiers is None else Tiers.of(row.tiers),
        issued_at_us=to_us(row.issued_at),
        granted_microtokens=row.granted_microtokens,
        out_microtokens=row.out_microtokens,
    )


def _leaf(row: Correction) -> Leaf:
    return Leaf(
        shard=row.shard,
        account_id=row.account_id,
        run_key=row.run_key,
        version=row.version,
        recorded_at_us=to_us(row.recorded_at),
        microtokens=row.microtokens,
        micros=row.micros,
        details=bytes(row.details),
    )


def _written(row: Correction) -> Written:
    return Written(
        name=(row.account_id, row.run_key),
        version=row.version,
        microtokens=row.microtokens,
        micros=row.micros,
    )
