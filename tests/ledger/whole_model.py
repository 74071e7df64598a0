"""An account with all that can happen to it, in plain Python: the lots and runs of model.py, and
holds, parts that come late, retakes. Shares no code with the ledger. Instants are whole hours.
"""

from dataclasses import dataclass, field

from tests.ledger.model import IN_PARTS, NEVER, ModelAccount, ModelRun

WATCHED = 24  # how long a run is awaited after its hold lapsed or was released


@dataclass
class ModelHold:
    amount: int
    life: int
    begins: int
    due: int | None  # when time itself next changes it; None: done with
    counted: int
    claimed: int | None = None
    captured: bool = False
    released: bool = False
    lapsed: bool = False

    def status(self, now: int) -> str:
        if self.captured:
            return "captured"
        if self.released:
            return "released"
        if self.claimed is not None:
            return "capturing"
        return "expired" if self.lapsed or now >= self.begins + self.life else "held"

    def notice(self, now: int) -> None:
        """What time has made of it stays so, though the clock be put back."""
        if self.due is not None and self.due <= now:
            is_new = not (self.lapsed or self.released)
            self.lapsed = self.lapsed or is_new
            self.due = now + WATCHED if is_new else None
            self.counted = 0

    def claim(self, now: int) -> None:
        if self.claimed is None:
            self.claimed, self.due = now, NEVER


@dataclass
class WholeAccount(ModelAccount):
    holds: dict[str, ModelHold] = field(default_factory=dict)
    last_part: dict[str, int] = field(default_factory=dict)  # of runs in parts: when it came
    ended: set[str] = field(default_factory=set)
    retaken_by: dict[str, str] = field(default_factory=dict)
    retakes: dict[str, str] = field(default_factory=dict)  # that wait for the run they retake

    def drain(self, now: int) -> None:
        known = {run_id for run_id in self.last_part if self.is_known(run_id)}
        new = [run for run in self.waiting if self.debit(run)]
        self.waiting.clear()
        for run in new:
            if run.part:
                self.note_part(run, now, is_late=run.id in known)
            self.settle(run)
        for run in new:
            if run.retakes:
                self.retakes[run.id] = run.retakes
        self.mark_retaken({run.id for run in new})

    def is_known(self, run_id: str) -> bool:
        """Whether another part of it changes what was said of it."""
        return run_id in self.ended or run_id in self.retaken_by

    def note_part(self, run: ModelRun, now: int, *, is_late: bool) -> None:
        self.last_part[run.id] = max(now, self.last_part.get(run.id, now))
        self.versions[run.id] += is_late
        if run.is_last:
            self.ended.add(run.id)

    def end_quiet(self, now: int) -> None:
        self.ended |= {run_id for run_id, last in self.last_part.items() if last < now}

    def mark_retaken(self, some: set[str] | None = None) -> None:
        """By these retakes, or by all."""
        for retake, run_id in list(self.retakes.items()):
            if run_id in self.runs and (some is None or retake in some):
                del self.retakes[retake]
                if run_id not in self.retaken_by:
                    self.retaken_by[run_id] = retake
                    self.versions[run_id] += 1

    def settle(self, run: ModelRun) -> None:
        one = self.holds.get(run.id)
        if one is not None and one.due is not None:
            one.counted -= min(one.counted, run.cost)
            if not run.part or run.is_last:
                one.captured, one.counted, one.due = True, 0, None

    def is_over(self, run_id: str) -> bool:
        """Whether it is debited, whole or to the end."""
        if run_id not in self.runs:
            return False
        return self.runs[run_id].is_of != IN_PARTS or run_id in self.ended

    def spendable(self, now: int) -> int:
        return sum(lot.left for lot in self.serving(now) if lot.kind != "debt")

    def available(self, now: int) -> int:
        held = sum(
            one.counted for one in self.holds.values() if one.due is not None and one.due > now
        )
        return self.spendable(now) - held

    def notice(self, now: int) -> None:
        for one in self.holds.values():
            one.notice(now)

    def ask(self, run_id: str, amount: int, life: int, now: int) -> str:
        self.notice(now)
        known = self.holds.get(run_id)
        if known is not None:
            return known.status(now) if (known.amount, known.life) == (amount, life) else "conflict"
        if self.is_over(run_id):
            return "debited"
        if self.available(now) < amount:
            return "tokens"
        self.holds[run_id] = ModelHold(amount, life, now, due=now + life, counted=amount)
        return "held"

    def capture(self, run: ModelRun, now: int) -> str:
        one = self.holds.get(run.id)
        if one is None:
            return "nothing"
        if not one.captured and one.released:
            return "released"
        if run.hour > now:
            return "invalid"
        self.notice(now)
        # A run that came when nobody awaited it any more is debited, and its hold done with.
        if not one.captured and not (one.due is None and self.is_over(run.id)):
            one.claim(now)
        self.waiting.append(run)
        return "accepted"

    def release(self, run_id: str, now: int) -> str:
        one = self.holds.get(run_id)
        if one is None:
            return "nothing"
        self.notice(now)
        if one.status(now) == "held":
            if any(run.id == run_id for run in self.waiting):
                one.claim(now)
            else:
                one.released, one.counted, one.due = True, 0, now + WATCHED
        return one.status(now)
