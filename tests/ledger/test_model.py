"""The ledger against the model of it (tests/ledger/model.py).

Hypothesis makes up histories of three accounts of one shard: it opens lots and overage, accepts
runs late, twice and under another's id, drains whenever it likes, and lets time pass. Each history
runs on PostgreSQL and on the model; after every step they must agree, lot by lot and slice by
slice. It reports the shortest history in which they don't.
"""

import uuid
from collections import Counter
from datetime import datetime
from itertools import count
from typing import Any

from django.db import connection, transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger import debiting, grants, queries, units
from ledger.grants import Granted
from ledger.intake import NewRun
from ledger.invariants import violations
from ledger.models import Conflict
from ledger.value import Tier, Tiers
from tests.ledger.builders import HOUR, NOON, accept, make_account, make_run, make_shop
from tests.ledger.model import ENDLESS, NEVER, ModelAccount, ModelRun, Slice

# Small on purpose: lots run out exactly, and runs fall on the very instant of an expiry, often.
amounts = st.integers(1, 9)
costs = st.integers(0, 3) | st.integers(0, 9)
hours = st.integers(1, 4)
which = st.integers(0, 2)
lot_terms = st.fixed_dictionaries(
    {
        # Lots that run out at once, and lots that stay in use for a while.
        "granted": amounts | st.integers(10, 60),
        "price": st.sampled_from([0, 0, 7, 1000]),
        "priority": st.integers(0, 1),
        "begins": st.integers(-4, 2),
        "lasts": st.none() | hours,
        "grace": st.integers(0, 2),
        "rollover_max": st.integers(0, 4),
        "rollover_lasts": hours,
    }
)
LASTING: dict[str, Any] = {
    "granted": 1, "price": 0, "priority": 9, "begins": 0, "lasts": None, "grace": 0,
    "rollover_max": 0, "rollover_lasts": 1,
}  # fmt: skip
new_runs = st.tuples(which, costs, st.integers(0, 4))


def at_hour(hour: int) -> datetime:
    return NOON + hour * HOUR


def codes_of_one_shard(book_id: int) -> list[str]:
    """Three account codes that live in the shard of the first."""

    def shard(code: str) -> int:
        return units.shard_of_code(book_id=book_id, code=code, shards=units.SHARDS)

    alike = (code for code in map("a{}".format, count()) if shard(code) == shard("a0"))
    return [next(alike) for _ in range(3)]


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.shop = make_shop(effective_at=at_hour(-100))
        self.codes = codes_of_one_shard(self.shop.book_id)
        self.ids = [make_account(self.shop, code) for code in self.codes]
        self.shard = units.shard_of(self.ids[0])
        self.models = [ModelAccount() for _ in self.ids]
        self.now = 0
        self.numbers = count(1)
        self.sent: list[tuple[int, ModelRun]] = []
        self.granted: list[tuple[dict[str, Any], Granted]] = []
        self.is_moved = True

    @initialize(lots=st.lists(st.tuples(which, lot_terms), min_size=2, max_size=4))
    def some_lots_to_start_with(self, lots: list[tuple[int, dict[str, Any]]]) -> None:
        for account, terms in lots:
            self.grant(account, terms)

    @rule(passed=hours)
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @rule(account=which, terms=lot_terms)
    def grant(self, account: int, terms: dict[str, Any]) -> None:
        begins = self.now + terms["begins"]
        expires = NEVER if terms["lasts"] is None else begins + terms["lasts"]
        grace = 0 if expires == NEVER else terms["grace"]
        rolls = 0 if expires == NEVER else min(terms["rollover_max"], terms["granted"])
        key = f"grant-{next(self.numbers)}"
        request: dict[str, Any] = {
            "account_id": self.ids[account],
            "microtokens": terms["granted"],
            "source": "allotment",
            "price_micros": terms["price"],
            "currency": "EUR",
            "priority": terms["priority"],
            "effective_at": at_hour(begins),
            "expires_at": None if expires == NEVER else at_hour(expires),
            "grace": grace * HOUR,
            "rollover_microtokens_max": rolls,
            "rollover_expires_at": at_hour(expires + terms["rollover_lasts"]) if rolls else None,
            "idempotency_key": key,
        }
        self.is_moved = True
        granted = grants.grant(**request, at=at_hour(self.now))
        self.granted.append((request, granted))
        assert granted.repaid_microtokens == self.models[account].grant(
            key,
            terms["granted"],
            price=terms["price"],
            priority=terms["priority"],
            begins=begins,
            expires=expires,
            closes=expires + grace,
            rollover_max=rolls,
            rollover_expires=expires + terms["rollover_lasts"],
            issued=self.now,
        )

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def grant_again(self, data: st.DataObject) -> None:
        request, granted = data.draw(st.sampled_from(self.granted))
        assert grants.grant(**request, at=at_hour(self.now)) == granted

    @rule(account=which, lasts=hours, begins=st.integers(-4, 0), cap=st.none() | amounts)
    def open_overage(self, account: int, lasts: int, begins: int, cap: int | None) -> None:
        self.is_moved = True
        grants.open_overage(
            account_id=self.ids[account],
            tiers=Tiers(steps=(Tier(up_to_microtokens=None, micros_per_token=1),)),
            cap_microtokens=cap,
            currency="EUR",
            effective_at=at_hour(self.now + begins),
            expires_at=at_hour(self.now + begins + lasts),
            idempotency_key=f"overage-{next(self.numbers)}",
            at=at_hour(self.now),
        )
        self.models[account].add(
            "overage",
            ENDLESS if cap is None else cap,
            begins=self.now + begins,
            expires=self.now + begins + lasts,
            issued=self.now,
        )

    @rule(runs=st.lists(new_runs, min_size=1, max_size=5))
    def send(self, runs: list[tuple[int, int, int]]) -> None:
        self.accept(
            [
                (account, ModelRun(f"run-{next(self.numbers)}", self.now - late, cost))
                for account, cost, late in runs
            ]
        )

    @rule(account=which, cost=costs, late=st.sampled_from([0, 0, 0, 1, 4]))
    def send_one_and_drain(self, account: int, cost: int, late: int) -> None:
        self.send([(account, cost, late)])
        self.drain()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again_in_another_order(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=4))
        self.accept(some)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), cost=costs)
    def send_another_under_its_id(self, data: st.DataObject, cost: int) -> None:
        account, run = data.draw(st.sampled_from(self.sent))
        self.accept([(account, ModelRun(run.id, run.hour, cost, is_of="other"))])

    def accept(self, runs: list[tuple[int, ModelRun]]) -> None:
        accept(self.shop, [self.as_sent(*one) for one in runs], at=at_hour(self.now))
        for account, run in runs:
            self.models[account].waiting.append(run)
        self.sent += runs

    def as_sent(self, account: int, run: ModelRun) -> NewRun:
        return make_run(
            run.cost,
            run_id=run.id,
            account=self.codes[account],
            at=at_hour(run.hour),
            workflow=run.is_of or "review",
        )

    @rule()
    def drain(self) -> None:
        self.is_moved = True
        debiting.drain_shard(shard=self.shard, at=at_hour(self.now))
        for model in self.models:
            model.debit_waiting()

    @rule()
    def close_due(self) -> None:
        self.drain()
        while grants.expire_due(at=at_hour(self.now)):
            pass
        for model in self.models:
            while model.close_due(self.now):
                pass

    @rule()
    def close_again(self) -> None:
        for request, granted in self.granted:
            expires = request["expires_at"]
            if expires is not None and expires + request["grace"] <= at_hour(self.now):
                self.close_due()
                first = grants.close_lot(lot_id=granted.lot_id, at=at_hour(self.now))
                again = grants.close_lot(lot_id=granted.lot_id, at=at_hour(self.now + 1))
                assert first == again
                return

    @invariant()
    def they_agree(self) -> None:
        if not self.is_moved:
            return
        self.is_moved = False
        for account_id, model in zip(self.ids, self.models, strict=True):
            lots = sorted(queries.lots(account_ids=[account_id]), key=lambda lot: lot.id)
            assert [
                (
                    lot.kind,
                    min(lot.granted_microtokens, ENDLESS),
                    lot.out_microtokens,
                    lot.price_micros,
                )
                for lot in lots
            ] == [(lot.kind, lot.granted, lot.out, lot.price) for lot in model.lots]
            lines = queries.runs(account_id=account_id, runs_max=1000)[::-1]
            assert [(line.sequence, line.run_id, line.microtokens) for line in lines] == [
                (sequence, run.id, run.cost) for sequence, run in enumerate(model.runs.values(), 1)
            ]
            numbers = {lot.id: number for number, lot in enumerate(lots)}
            assert slices_of(account_id, numbers, list(model.runs)) == Counter(model.slices)
            conflicts = Conflict.objects.filter(account_id=account_id)
            assert Counter(conflicts.values_list("run_key", flat=True)) == Counter(
                units.run_key(run_id) for run_id in model.conflicts
            )

    def teardown(self) -> None:
        try:
            self.drain()
            for account in range(3):
                # A grant puts away what is in use: what the debit kept beside it comes to light.
                self.grant(account, LASTING)
            self.they_agree()
            assert violations() == {}
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)


def slices_of(account_id: int, numbers: dict[int, int], run_ids: list[str]) -> Counter[Slice]:
    """All movements of an account, with the model's numbers of its lots, and runs by their ids."""
    ids = {units.run_key(run_id): run_id for run_id in run_ids}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT run_key, operation_key, kind, lot_id, out_before_microtokens, microtokens
            FROM ledger_movement WHERE account_id = %s
            """,
            [account_id],
        )
        return Counter(
            Slice(
                cause=ids[run_key] if key is None else named(key, numbers, ids),
                kind=kind,
                lot=numbers[lot_id],
                out_before=out_before,
                microtokens=microtokens,
            )
            for run_key, key, kind, lot_id, out_before, microtokens in cursor.fetchall()
        )


def named(key: str, numbers: dict[int, int], ids: dict[Any, str]) -> str:
    """A closing is named after its lot, a correction after its run: the model has other names."""
    verb, _, what = key.partition(":")
    if verb == "close":
        return f"close:{numbers[int(what)]}"
    if verb == "correction":
        run_key, _, version = what.partition(":")
        return f"correction:{ids[uuid.UUID(run_key)]}:{version}"
    return key


def test_the_ledger_behaves_like_its_model(db: None) -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(max_examples=settings().max_examples // 5, stateful_step_count=25),
    )
