"""The ledger in plain Python: slow, obvious, one microtoken at a time.

What PostgreSQL and numpy do in bulk is compared with this, lot by lot and slice by slice. It
shares no code with the ledger, on purpose. Instants are whole hours.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NEVER = 10**9
ENDLESS = 10**12


class Slice(NamedTuple):
    """A stretch of one lot that moved, and what for: a run's id or an operation's key."""

    cause: str
    kind: str
    lot: int
    out_before: int
    microtokens: int


@dataclass
class ModelLot:
    number: int
    kind: str
    granted: int
    price: int = 0
    priority: int = 0
    begins: int = -NEVER
    expires: int = NEVER
    closes: int = NEVER
    rollover_max: int = 0
    rollover_expires: int = NEVER
    issued: int = 0
    out: int = 0
    is_closed: bool = False

    @property
    def left(self) -> int:
        return self.granted - self.out

    def rank(self) -> tuple[object, ...]:
        """Smaller is drawn first. Lots of one age are numbered in the order of their making."""
        kind = ["prepaid", "overage", "debt"].index(self.kind)
        return (kind, self.priority, self.expires, self.price > 0, self.issued, self.number)

    def worth(self, out: int) -> int:
        return self.price * out // self.granted


@dataclass(frozen=True)
class ModelRun:
    """A run, or a part of one."""

    id: str
    hour: int
    cost: int
    is_of: str = ""  # something else in the body
    part: str = ""
    is_last: bool = False
    retakes: str = ""  # the id of a run


IN_PARTS = "a run in parts"


@dataclass
class Piece:
    """What is left of what a run drew on one lot."""

    lot: int
    left: int


@dataclass
class ModelAccount:
    """One account. Its first lot is the debt lot."""

    lots: list[ModelLot] = field(default_factory=lambda: [ModelLot(0, "debt", ENDLESS)])
    slices: list[Slice] = field(default_factory=list)
    waiting: list[ModelRun] = field(default_factory=list)
    runs: dict[str, ModelRun] = field(default_factory=dict)  # in order of their receipts
    conflicts: list[str] = field(default_factory=list)
    parts: dict[tuple[str, str], ModelRun] = field(default_factory=dict)
    pieces: dict[str, list[Piece]] = field(default_factory=dict)  # by run, as they were drawn
    versions: dict[str, int] = field(default_factory=dict)  # of receipts
    repaid: dict[int, int] = field(default_factory=dict)  # by lot, the latest last

    def add(self, kind: str, granted: int, **facts: Any) -> ModelLot:
        lot = ModelLot(len(self.lots), kind, granted, **facts)
        self.lots.append(lot)
        return lot

    def grant(self, key: str, granted: int, **facts: Any) -> int:
        """A new lot, which first repays the debt; how much it repaid."""
        return self.repay(key, self.add("prepaid", granted, **facts))

    def repay(self, key: str, lot: ModelLot) -> int:
        debt = self.lots[0]
        repaid = 0
        while debt.out and lot.left:
            debt.out -= 1
            lot.out += 1
            repaid += 1
        if repaid:
            self.slices.append(Slice(key, "repay", lot.number, 0, repaid))
            self.slices.append(Slice(key, "repaid", 0, debt.out + repaid, repaid))
            self.repaid[lot.number] = repaid
        return repaid

    def debit_waiting(self) -> None:
        for run in self.waiting:
            self.debit(run)
        self.waiting.clear()

    def debit(self, run: ModelRun) -> bool:
        """Whether it was new."""
        parted = ModelRun(run.id, run.hour, 0, is_of=IN_PARTS)
        known = self.runs.get(run.id)
        if run.part and (known is None or known.is_of == IN_PARTS):
            known = self.parts.get((run.id, run.part))
        if known is not None:
            if known != run:
                self.conflicts.append(run.id)
            return False
        self.versions.setdefault(run.id, 1)
        if run.part:
            self.runs.setdefault(run.id, parted)
            self.parts[run.id, run.part] = run
        else:
            self.runs[run.id] = run
        self.draw(run)
        return True

    def draw(self, run: ModelRun) -> None:
        taken: dict[int, Slice] = {}
        for _ in range(run.cost):
            lot = min(self.serving(run.hour), key=ModelLot.rank)
            before = taken.get(lot.number, Slice(run.id, "debit", lot.number, lot.out, 0))
            taken[lot.number] = before._replace(microtokens=before.microtokens + 1)
            lot.out += 1
        self.slices += taken.values()
        pieces = self.pieces.setdefault(run.id, [])
        pieces += [Piece(lot, one.microtokens) for lot, one in taken.items()]

    def left_of(self, run_id: str) -> int:
        """What a run costs by now."""
        return sum(piece.left for piece in self.pieces.get(run_id, []))

    def void(self, run_id: str, microtokens: int, now: int) -> None:
        """Give this much back, from the front of what the run drew."""
        assert 0 < microtokens <= self.left_of(run_id)
        self.versions[run_id] += 1
        cause = f"correction:{run_id}:{self.versions[run_id]}"
        for piece in self.pieces[run_id]:
            given = min(piece.left, microtokens)
            if given:
                self.owe_again(cause, piece.lot, given, now)
                self.give_back(cause, "return", self.lots[piece.lot], given, now)
                piece.left -= given
                microtokens -= given

    def owe_again(self, cause: str, lot: int, given: int, now: int) -> None:
        """Debt that was repaid is owed again, and who repaid it, the latest first, has it back."""
        debt = self.lots[0]
        for repaying in reversed(list(self.repaid) if lot == 0 else []):
            back = min(self.repaid[repaying], max(0, given - debt.out))
            if back:
                self.slices.append(Slice(cause, "repay", 0, debt.out, back))
                debt.out += back
                self.repaid[repaying] -= back
                self.give_back(cause, "repaid", self.lots[repaying], back, now)

    def give_back(self, cause: str, kind: str, lot: ModelLot, given: int, now: int) -> None:
        """To a lot; one whose time is over keeps nothing."""
        self.slices.append(Slice(cause, kind, lot.number, lot.out, given))
        lot.out -= given
        if lot.kind == "prepaid" and (lot.is_closed or lot.closes <= now):
            self.slices.append(Slice(cause, "expire", lot.number, lot.out, given))
            lot.out += given

    def serving(self, hour: int) -> Iterator[ModelLot]:
        return (lot for lot in self.lots if lot.left and lot.begins <= hour < lot.expires)

    def close_due(self, hour: int) -> bool:
        """Close what is due now; whether there was anything to close."""
        due = [
            lot
            for lot in sorted(self.lots, key=lambda lot: (lot.closes, lot.number))
            if lot.kind == "prepaid" and lot.closes <= hour and lot.left
        ]
        for lot in due:
            self.close(lot)
        return bool(due)

    def close(self, lot: ModelLot) -> None:
        key = f"close:{lot.number}"
        lot.is_closed = True
        rolled = min(lot.left, lot.rollover_max)
        if rolled:
            self.slices.append(Slice(key, "roll_over", lot.number, lot.out, rolled))
            next_lot = self.add(
                "prepaid",
                rolled,
                price=lot.worth(lot.out + rolled) - lot.worth(lot.out),
                priority=lot.priority,
                begins=lot.expires,
                expires=lot.rollover_expires,
                closes=lot.rollover_expires + lot.closes - lot.expires,
                issued=lot.issued,
            )
            lot.out += rolled
            self.repay(key, next_lot)
        if lot.left:
            self.slices.append(Slice(key, "expire", lot.number, lot.out, lot.left))
            lot.out = lot.granted
