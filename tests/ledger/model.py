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
    id: str
    hour: int
    cost: int
    is_of: str = ""  # something else in the body


@dataclass
class ModelAccount:
    """One account. Its first lot is the debt lot."""

    lots: list[ModelLot] = field(default_factory=lambda: [ModelLot(0, "debt", ENDLESS)])
    slices: list[Slice] = field(default_factory=list)
    waiting: list[ModelRun] = field(default_factory=list)
    runs: dict[str, ModelRun] = field(default_factory=dict)  # in order of their receipts
    conflicts: list[str] = field(default_factory=list)

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
        return repaid

    def debit_waiting(self) -> None:
        for run in self.waiting:
            self.debit(run)
        self.waiting.clear()

    def debit(self, run: ModelRun) -> None:
        if run.id in self.runs:
            if self.runs[run.id] != run:
                self.conflicts.append(run.id)
            return
        self.runs[run.id] = run
        taken: dict[int, Slice] = {}
        for _ in range(run.cost):
            lot = min(self.serving(run.hour), key=ModelLot.rank)
            before = taken.get(lot.number, Slice(run.id, "debit", lot.number, lot.out, 0))
            taken[lot.number] = before._replace(microtokens=before.microtokens + 1)
            lot.out += 1
        self.slices += taken.values()

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
