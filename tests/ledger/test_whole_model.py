"""The whole ledger at once against a model of it (tests/ledger/whole_model.py).

Hypothesis makes up histories of two accounts of one shard: grants, overage, runs (sent late, again,
in another order, under another's id, in parts, as retakes), holds and what becomes of them, voids
of all or some of a run, closings, and a clock that goes on and is put back. After every step the
ledger and the model agree on what is available, on every lot and every slice of it, on every hold;
in the end on every receipt, and all invariants hold.
"""

from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from ledger import accounts, corrections, debiting, grants, holds, parts, queries, receipts, units
from ledger import retakes as ledger_retakes
from ledger.errors import InvalidRuns, LedgerError, MoreThanIsLeft
from ledger.intake import NewPart, NewRun
from ledger.invariants import violations
from ledger.models import Conflict
from ledger.value import Tier, Tiers
from tests.ledger.builders import (
    HOUR,
    Shop,
    accept,
    make_account,
    make_run,
)
from tests.ledger.holding import hold, release
from tests.ledger.model import NEVER, ModelRun
from tests.ledger.test_model import at_hour, codes_of_one_shard, slices_of
from tests.ledger.whole_model import WholeAccount

CODES = {
    "hold_conflict": "conflict", "run_debited": "debited", "insufficient_tokens": "tokens",
    "nothing_held": "nothing", "hold_released": "released", "invalid_runs": "invalid",
}  # fmt: skip
# What happens, and how often beside the others.
OFTEN = {
    "grant": 3, "overage": 1, "send": 4, "send_and_drain": 6, "keep_back": 1, "send_kept": 2,
    "send_again": 2, "send_other": 1, "part": 4, "retake": 2, "drain": 3, "close_due": 3,
    "time_passes": 4, "clock_goes_back": 2, "ask": 6, "capture": 4, "release": 2, "sweep": 1,
    "void": 4, "void_again": 1, "end_quiet": 1, "mark_retaken": 1,
}  # fmt: skip
# Small numbers, so that bounds coincide often. What they mean is the step's affair.
STEPS = st.tuples(
    st.sampled_from([name for name, times in OFTEN.items() for _ in range(times)]),
    st.sampled_from([0, 0, 0, 1]),  # which account
    st.integers(1, 9),
    st.integers(0, 4),
    st.integers(0, 9),
)


class Played:
    """Two accounts and their models. A step's arguments: account, amount, hour, which of some."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.codes = codes_of_one_shard(shop.book_id)[:2]
        self.ids = [make_account(shop, code) for code in self.codes]
        self.accounts = [accounts.account(account_id=one) for one in self.ids]
        self.models = [WholeAccount() for _ in self.ids]
        self.now = 0
        self.numbers = count(1)
        self.sent: list[tuple[int, ModelRun]] = []
        self.kept: list[tuple[int, ModelRun]] = []
        self.retaken: set[str] = set()
        self.voids: list[tuple[dict[str, Any], object]] = []
        for account in (0, 1):
            # For ever, and for the next hours.
            self.grant(account, 4, 4, 2)
            self.grant(account, 9, 1, 5)

    @property
    def at(self) -> datetime:
        return at_hour(self.now)

    def grant(self, account: int, amount: int, hour: int, pick: int) -> None:
        """Of all kinds: soon over or for ever, free or paid, first or last, rolling over or not."""
        begins = self.now - hour
        expires = NEVER if pick < 3 else begins + pick - 1
        grace = 0 if pick < 3 else amount % 2
        rolls = 0 if pick < 3 else min(amount, hour)
        granted = amount if pick % 2 else 5 * amount
        price = 7 * (amount % 3)
        facts = {"priority": pick % 3 % 2, "begins": begins, "expires": expires}
        key = f"grant-{next(self.numbers)}"
        made = grants.grant(
            account_id=self.ids[account],
            microtokens=granted,
            source="allotment",
            price_micros=price,
            currency="EUR",
            priority=facts["priority"],
            effective_at=at_hour(begins),
            expires_at=None if expires == NEVER else at_hour(expires),
            grace=grace * HOUR,
            rollover_microtokens_max=rolls,
            rollover_expires_at=at_hour(expires + amount % 4 + 1) if rolls else None,
            idempotency_key=key,
            at=self.at,
        )
        assert made.repaid_microtokens == self.models[account].grant(
            key,
            granted,
            price=price,
            closes=expires + grace,
            rollover_max=rolls,
            rollover_expires=expires + amount % 4 + 1,
            issued=self.now,
            **facts,
        )

    def overage(self, account: int, amount: int, hour: int, pick: int) -> None:
        ends = self.now + 1 + pick % 4
        grants.open_overage(
            account_id=self.ids[account],
            tiers=Tiers(steps=(Tier(up_to_microtokens=None, micros_per_token=1),)),
            cap_microtokens=amount,
            currency="EUR",
            effective_at=at_hour(self.now - hour),
            expires_at=at_hour(ends),
            idempotency_key=f"overage-{next(self.numbers)}",
            at=self.at,
        )
        self.models[account].add(
            "overage", amount, begins=self.now - hour, expires=ends, issued=self.now
        )

    def new_run(self, account: int, amount: int, hour: int, pick: int) -> tuple[int, ModelRun]:
        cost = 0 if pick == 9 else amount + pick // 2
        return account, ModelRun(f"run-{next(self.numbers)}", self.now - hour, cost)

    def send(self, account: int, amount: int, hour: int, pick: int) -> None:
        some = [self.new_run(account, amount, late, pick) for late in range(hour + 1)]
        self.accept(some[: 1 + pick % 3])

    def send_and_drain(self, account: int, amount: int, hour: int, pick: int) -> None:
        self.accept([self.new_run(account, amount, hour, pick)])
        self.drain()

    def keep_back(self, account: int, amount: int, hour: int, pick: int) -> None:
        self.kept.append(self.new_run(account, amount, hour, pick))

    def send_kept(self, account: int, amount: int, hour: int, pick: int) -> None:
        """The last first, with one that was sent before."""
        if self.kept:
            self.accept([*self.kept[::-1], *self.sent[-1:]])
            self.kept.clear()

    def send_again(self, account: int, amount: int, hour: int, pick: int) -> None:
        self.accept(self.sent[-1 - pick :][::-1])

    def send_other(self, account: int, amount: int, hour: int, pick: int) -> None:
        if one := self.picked(self.sent, pick):
            self.accept([(one[0], replace(one[1], is_of="other", cost=amount, hour=self.now))])

    def part(self, account: int, amount: int, hour: int, pick: int) -> None:
        """Of one of two runs, or of any that was sent; one part in three is the last."""
        run_id = f"parted-{account}-{pick % 2}"
        if pick == 9 and self.sent:
            account, one = self.sent[-1]
            run_id = one.id
        run = ModelRun(run_id, self.now - hour, amount, part=f"{amount % 5}", is_last=pick % 3 == 0)
        self.accept([(account, run)])

    def retake(self, account: int, amount: int, hour: int, pick: int) -> None:
        """Of a run that was sent, or is kept back still."""
        runs = [one for one in self.sent + self.kept if one[1].id not in self.retaken]
        if one := self.picked(runs, pick):
            account, run = self.new_run(one[0], amount, hour, pick)
            self.retaken.add(one[1].id)
            self.accept([(account, replace(run, retakes=one[1].id))])

    def accept(self, runs: list[tuple[int, ModelRun]]) -> None:
        """All or none: what occurs in the future, for all we know, is refused."""
        if not runs:
            return
        new = [as_sent(self.codes[account], run) for account, run in runs]
        if any(run.hour > self.now for _, run in runs):
            with pytest.raises(InvalidRuns):
                accept(self.shop, new, at=self.at)
            return
        accept(self.shop, new, at=self.at)
        for account, run in runs:
            self.models[account].waiting.append(run)
        self.sent += runs

    def drain(self, *_: int) -> None:
        debiting.drain_shard(shard=units.shard_of(self.ids[0]), at=self.at)
        for model in self.models:
            model.drain(self.now)

    def close_due(self, *_: int) -> None:
        self.drain()
        sweeps = 0
        while grants.expire_due(at=self.at):
            sweeps += 1
            assert sweeps < 20, "there is always something to close"
        for model in self.models:
            while model.close_due(self.now):
                pass

    def time_passes(self, account: int, amount: int, hour: int, pick: int) -> None:
        self.now += 1 + hour if pick < 9 else 25

    def clock_goes_back(self, account: int, amount: int, hour: int, pick: int) -> None:
        self.now -= 1 + hour if pick < 9 else 25

    def ask(self, account: int, amount: int, hour: int, pick: int) -> None:
        """For a run to come, for one that was sent, or once more."""
        model, life = self.models[account], 1 + hour
        run_id = f"held-{account}-{pick}"
        if pick == 9 and (one := self.picked(self.sent, amount)):
            account, model, run_id = one[0], self.models[one[0]], one[1].id
        if run_id in model.holds and amount > 1:
            amount, life = model.holds[run_id].amount, model.holds[run_id].life
        try:
            asked = hold(
                self.shop,
                amount,
                run=run_id,
                account=self.codes[account],
                at=self.at,
                life_seconds=3600 * life,
            )
            told = asked.status(self.at)
        except LedgerError as refusal:
            told = CODES[refusal.code]
        assert told == model.ask(run_id, amount, life, self.now)

    def capture(self, account: int, amount: int, hour: int, pick: int) -> None:
        account, run_id = self.held(account, pick)
        run = ModelRun(run_id, self.now - hour, amount)
        if known := [one for _, one in self.sent if one.id == run_id]:
            run = known[0]
        try:
            holds.capture(
                account=self.accounts[account], run=as_sent(self.codes[account], run), at=self.at
            )
            told = "accepted"
            self.sent.append((account, run))
        except LedgerError as refusal:
            told = CODES[refusal.code]
        assert told == self.models[account].capture(run, self.now)

    def release(self, account: int, amount: int, hour: int, pick: int) -> None:
        account, run_id = self.held(account, pick)
        try:
            released = release(self.shop, run_id, account=self.codes[account], at=self.at)
            told = released.status(self.at)
        except LedgerError as refusal:
            told = CODES[refusal.code]
        assert told == self.models[account].release(run_id, self.now)

    def held(self, account: int, pick: int) -> tuple[int, str]:
        """A run for which tokens are held, or were."""
        asked = [(number, one) for number in (0, 1) for one in self.models[number].holds]
        return (account, "nobody's") if pick == 9 or not asked else self.picked(asked, pick)

    def sweep(self, *_: int) -> None:
        while holds.sweep(at=self.at):
            pass
        for model in self.models:
            model.notice(self.now)

    def void(self, account: int, amount: int, hour: int, pick: int) -> None:
        """All of a run, or some; more than is left is refused."""
        runs = [
            (number, run_id)
            for number, model in enumerate(self.models)
            for run_id in model.runs
            if model.left_of(run_id)
        ]
        if not (one := self.picked(runs, pick)):
            return
        account, run_id = one
        left = self.models[account].left_of(run_id)
        wanted = {4: None, 3: 3 * amount}.get(hour, 1 + amount % left)
        request: dict[str, Any] = {
            "account": self.accounts[account],
            "run_id": run_id,
            "microtokens": wanted,
            "reason": "",
            "idempotency_key": f"void-{next(self.numbers)}",
        }
        if wanted is not None and wanted > left:
            with pytest.raises(MoreThanIsLeft):
                corrections.void(**request, at=self.at)
            return
        corrected = corrections.void(**request, at=self.at)
        assert corrected.microtokens == -(left if wanted is None else wanted)
        self.models[account].void(run_id, -corrected.microtokens, self.now)
        self.voids.append((request, corrected))

    def void_again(self, account: int, amount: int, hour: int, pick: int) -> None:
        if one := self.picked(self.voids, pick):
            request, corrected = one
            assert corrections.void(**request, at=self.at) == corrected

    def end_quiet(self, *_: int) -> None:
        while parts.end_quiet(at=self.at):
            pass
        for model in self.models:
            model.end_quiet(self.now)

    def mark_retaken(self, *_: int) -> None:
        while ledger_retakes.mark_waiting(at=self.at):
            pass
        for model in self.models:
            model.mark_retaken()

    @staticmethod
    def picked(some: list[Any], pick: int) -> Any:
        """One of the latest."""
        return some[-1 - pick % len(some)] if some else None

    def require_agreement(self) -> None:
        """Both accounts are read together."""
        free = holds.available(account_ids=self.ids, at=self.at)
        balances = queries.balances(account_ids=self.ids, at=self.at)
        lots_of_both = sorted(queries.lots(account_ids=self.ids), key=lambda lot: lot.id)
        for account, model in zip(self.accounts, self.models, strict=True):
            assert free[account.id].available_microtokens == model.available(self.now)
            for run_id, one in model.holds.items():
                held = holds.find(account=account, run_id=run_id)
                assert held.status(self.at) == one.status(self.now)
            lots = [lot for lot in lots_of_both if lot.account_id == account.id]
            assert [(lot.kind, lot.out_microtokens, lot.price_micros) for lot in lots] == [
                (lot.kind, lot.out, lot.price) for lot in model.lots
            ]
            assert balances[account.id].debt_microtokens == model.lots[0].out
            numbers = {lot.id: number for number, lot in enumerate(lots)}
            assert slices_of(account.id, numbers, list(model.runs)) == Counter(model.slices)

    def require_receipts(self) -> None:
        for account, model in zip(self.accounts, self.models, strict=True):
            lines = queries.runs(account_id=account.id, runs_max=1000)[::-1]
            assert [(line.sequence, line.run_id, line.microtokens) for line in lines] == [
                (sequence, run_id, model.left_of(run_id))
                for sequence, run_id in enumerate(model.runs, 1)
            ]
            names = {(account.id, units.run_key(run_id)): run_id for run_id in model.runs}
            found = receipts.receipts(names=list(names), codes={account.id: account.code})
            assert {
                run_id: (
                    found[name].version,
                    found[name].microtokens,
                    found[name].retaken_by,
                    found[name].issued_at is not None,
                )
                for name, run_id in names.items()
            } == {
                run_id: (
                    model.versions[run_id],
                    model.left_of(run_id),
                    model.retaken_by.get(run_id, ""),
                    run_id not in model.last_part or run_id in model.ended,
                )
                for run_id in model.runs
            }
            conflicts = Conflict.objects.filter(account_id=account.id)
            assert Counter(conflicts.values_list("run_key", flat=True)) == Counter(
                units.run_key(run_id) for run_id in model.conflicts
            )


def as_sent(code: str, run: ModelRun) -> NewRun:
    sent = make_run(
        run.cost,
        run_id=run.id,
        account=code,
        at=at_hour(run.hour),
        workflow=run.is_of or "review",
    )
    part = NewPart(id=run.part, last=run.is_last) if run.part else None
    return replaced(sent, part=part, retake_of=run.retakes)


@settings(max_examples=settings().max_examples // 3)
@given(steps=st.lists(STEPS, min_size=20, max_size=40))
def test_whatever_happens_the_ledger_behaves_like_its_model(shop, steps) -> None:
    with transaction.atomic():
        played = Played(shop)
        for name, account, amount, hour, pick in steps:
            getattr(played, name)(account, amount, hour, pick)
            played.require_agreement()
        played.drain()
        played.require_agreement()
        played.require_receipts()
        assert violations() == {}
        transaction.set_rollback(True)
