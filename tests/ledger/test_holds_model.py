"""Holds against a small model of them, in plain Python, that shares no code with the ledger.

Hypothesis makes up histories of one account: it asks for holds, asks again, captures, releases,
sends runs with and without holds, lets the debit lag behind, sweeps or does not, and lets the clock
jump, back too. After every step the model and PostgreSQL agree on what is available, and on what
became of every hold.
"""

from dataclasses import dataclass, field

from django.db import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ledger import accounts, debiting, holds, limits
from ledger.errors import LedgerError
from ledger.invariants import violations
from ledger.units import shard_of
from tests.ledger.builders import NOON, accept, make_account, make_lot, make_run, make_shop
from tests.ledger.holding import available, hold, limit, status
from tests.ledger.test_holds import MINUTE

amounts = st.integers(0, 9)
names = st.integers(0, 7)
lives = st.integers(1, 4)  # minutes


@dataclass
class ModelHold:
    amount: int
    life: int
    begins: int
    claimed: int | None = None
    captured: bool = False
    released: bool = False

    def counts(self, now: int) -> bool:
        if self.captured or self.released:
            return False
        # Claimed in time it is held until its debit; claimed later it counts for nothing.
        return (now if self.claimed is None else self.claimed) < self.begins + self.life

    def status(self, now: int) -> str:
        if self.captured:
            return "captured"
        if self.released:
            return "released"
        if self.claimed is not None:
            return "capturing"
        return "held" if now < self.begins + self.life else "expired"


@dataclass
class Model:
    """One account, a lot without an end, and a limit on everything it does in a day."""

    left: int = 60
    cap: int = 40
    used: int = 0
    holds: dict[int, ModelHold] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)  # runs accepted, and what they cost
    debited: set[int] = field(default_factory=set)

    def held(self, now: int) -> int:
        return sum(one.amount for one in self.holds.values() if one.counts(now))

    def ask(self, name: int, amount: int, life: int, now: int) -> str:
        known = self.holds.get(name)
        if known is not None:
            return known.status(now) if (known.amount, known.life) == (amount, life) else "conflict"
        if name in self.debited:
            return "debited"
        if self.used + self.held(now) + amount > self.cap:
            return "limit"
        if self.left - self.held(now) < amount:
            return "tokens"
        self.holds[name] = ModelHold(amount, life, now)
        return "held"

    def capture(self, name: int, cost: int, now: int) -> str:
        one = self.holds.get(name)
        if one is None:
            return "nothing"
        if not one.captured:
            if one.released:
                return "released"
            if one.claimed is None:
                one.claimed = now
        self.accept(name, cost)
        return "accepted"

    def release(self, name: int, now: int) -> str:
        one = self.holds.get(name)
        if one is None:
            return "nothing"
        if one.status(now) == "held":
            if name in self.waiting:
                one.claimed = now
            else:
                one.released = True
        return one.status(now)

    def accept(self, name: int, cost: int) -> None:
        if name not in self.debited:
            self.waiting.setdefault(name, cost)

    def drain(self) -> None:
        for name, cost in self.waiting.items():
            self.debited.add(name)
            self.used += cost
            self.left = max(0, self.left - cost)
            if name in self.holds:
                self.holds[name].captured = True
        self.waiting.clear()


CODES = {
    "hold_conflict": "conflict", "run_debited": "debited", "limit_reached": "limit",
    "insufficient_tokens": "tokens", "nothing_held": "nothing", "hold_released": "released",
}  # fmt: skip


class HoldsMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.shop = make_shop()
        self.account_id = make_account(self.shop)
        self.account = accounts.account(account_id=self.account_id)
        make_lot(self.account_id, 60)
        limit(self.account_id, 40)
        self.model = Model()
        self.minute = 0
        # Runs of one id cost the same, however often they come: another cost is a conflict.
        self.costs: dict[int, int] = {}

    @property
    def now(self):
        return NOON + self.minute * MINUTE

    @rule(name=names, amount=amounts, life=lives)
    def ask(self, name: int, amount: int, life: int) -> None:
        if name in self.model.holds and amount % 2:
            # The retrying client.
            amount, life = self.model.holds[name].amount, self.model.holds[name].life
        try:
            asked = hold(self.shop, amount, run=f"r{name}", at=self.now, life_seconds=60 * life)
            told = asked.status(self.now)
        except LedgerError as refusal:
            told = CODES[refusal.code]
        assert told == self.model.ask(name, amount, life, self.minute)

    @rule(name=names, cost=amounts)
    def capture(self, name: int, cost: int) -> None:
        cost = self.costs.setdefault(name, cost)
        run = make_run(cost, run_id=f"r{name}", at=NOON)
        try:
            holds.capture(account=self.account, run=run, at=self.now)
            told = "accepted"
        except LedgerError as refusal:
            told = CODES[refusal.code]
        assert told == self.model.capture(name, cost, self.minute)

    @rule(name=names)
    def release(self, name: int) -> None:
        try:
            released = holds.release(account=self.account, run_id=f"r{name}", at=self.now)
            told = released.status(self.now)
        except LedgerError as refusal:
            told = CODES[refusal.code]
        assert told == self.model.release(name, self.minute)

    @rule(name=names, cost=amounts)
    def send(self, name: int, cost: int) -> None:
        cost = self.costs.setdefault(name, cost)
        accept(self.shop, [make_run(cost, run_id=f"r{name}", at=NOON)])
        self.model.accept(name, cost)

    @rule()
    def drain(self) -> None:
        debiting.drain_shard(shard=shard_of(self.account_id), at=self.now)
        self.model.drain()

    @rule()
    def sweep(self) -> None:
        while holds.sweep(at=self.now):
            pass

    @rule(minutes=st.integers(1, 5))
    def time_passes(self, minutes: int) -> None:
        self.minute += minutes

    @invariant()
    def they_agree(self) -> None:
        now = self.minute
        assert available(self.account_id, at=self.now) == self.model.left - self.model.held(now)
        for name, one in self.model.holds.items():
            assert status(self.shop, f"r{name}", at=self.now) == one.status(now)
        [counted] = limits.limits(account_id=self.account_id, at=self.now)
        assert sum(use.used for use in counted.uses) == self.model.used

    def teardown(self) -> None:
        if hasattr(self, "atomic"):
            assert violations() == {}
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)


def test_holds_behave_like_their_model(db: None) -> None:
    run_state_machine_as_test(
        HoldsMachine,
        settings=settings(max_examples=settings().max_examples // 8, stateful_step_count=20),
    )
