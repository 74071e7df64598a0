"""Statements add up and join; a balance as of any time is what was known then."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import accounts, corrections, grants, queries, statements
from ledger.errors import UnknownAccount
from ledger.statements import Moved, Statement
from ledger.units import Microtokens
from tests.ledger.builders import (
    HOUR,
    NOON,
    Shop,
    debit,
    make_account,
    make_lot,
    make_overage,
    make_run,
)

BEGIN = NOON - 100 * HOUR
END = NOON + 1000 * HOUR


def of(account_id: int, from_at: datetime, until_at: datetime) -> Statement:
    return statements.statement(account_id=account_id, from_at=from_at, until_at=until_at)


def moved(**amounts: int) -> Moved:
    return Moved(**{name: Microtokens(amount) for name, amount in amounts.items()})


def test_a_statement_says_what_moved_by_kind_and_lot(shop, account_id) -> None:
    debit(shop, [make_run(3)], at=NOON)  # a debt
    first = make_lot(account_id, 50, hours=5, rollover_max=10, rollover_hours=50, at=NOON + HOUR)
    debit(shop, [make_run(20, run_id="a"), make_run(4)], at=NOON + 2 * HOUR)
    corrections.void(
        account=accounts.account(account_id=account_id),
        run_id="a",
        microtokens=7,
        reason="wrong",
        idempotency_key="void",
        at=NOON + 3 * HOUR,
    )
    grants.expire_due(at=NOON + 6 * HOUR)
    whole = of(account_id, BEGIN, END)
    [line, rolled] = [one for one in whole.lines if one.kind == "prepaid"]
    assert line.lot_id == first
    assert (line.opening_microtokens, line.closing_microtokens) == (0, 0)
    assert line.moved == moved(
        granted_microtokens=50,
        repaid_microtokens=-3,
        used_microtokens=-24,
        corrected_microtokens=7,
        rolled_over_microtokens=-10,
        expired_microtokens=-20,
    )
    assert rolled.source == "rollover"
    assert rolled.moved == moved(granted_microtokens=10)
    debt = whole.section("debt")
    assert debt.moved == moved(used_microtokens=3, repaid_microtokens=-3)
    assert whole.section("prepaid").closing_microtokens == 10
    day_of_the_void = of(account_id, NOON + 3 * HOUR, NOON + 4 * HOUR)
    [line] = day_of_the_void.lines
    assert (line.opening_microtokens, line.closing_microtokens) == (23, 30)
    assert line.moved == moved(corrected_microtokens=7)


def test_a_run_stands_on_the_statement_of_when_it_was_recorded(shop, account_id) -> None:
    make_lot(account_id, 10, at=NOON)
    given_once = of(account_id, BEGIN, NOON + 24 * HOUR)
    debit(shop, [make_run(3, at=NOON)], at=NOON + 24 * HOUR)
    assert of(account_id, BEGIN, NOON + 24 * HOUR) == given_once
    [line] = of(account_id, NOON + 24 * HOUR, NOON + 48 * HOUR).lines
    assert (line.opening_microtokens, line.closing_microtokens) == (10, 7)


def test_a_late_run_over_several_lots_stands_on_each_when_it_was_recorded(shop, account_id) -> None:
    make_lot(account_id, 10, at=NOON)
    make_lot(account_id, 10, at=NOON)
    debit(shop, [make_run(13, at=NOON)], at=NOON + 24 * HOUR)
    before = of(account_id, BEGIN, NOON + 24 * HOUR).section("prepaid")
    assert (before.moved.used_microtokens, before.closing_microtokens) == (0, 20)
    after = of(account_id, NOON + 24 * HOUR, END).section("prepaid")
    assert (after.moved.used_microtokens, after.closing_microtokens) == (-13, 7)


def test_a_run_over_several_lots_stands_on_each(shop, account_id) -> None:
    make_lot(account_id, 10, at=NOON)
    make_overage(account_id, cap_microtokens=5)
    debit(shop, [make_run(18)], at=NOON + HOUR)
    used = {line.kind: line.moved.used_microtokens for line in of(account_id, BEGIN, END).lines}
    assert used == {"prepaid": -10, "overage": 5, "debt": 3}
    balance = statements.balance_as_of(account_id=account_id, as_of=NOON + HOUR)
    assert (balance.available_microtokens, balance.overage_microtokens) == (0, 5)
    assert balance.debt_microtokens == 3


def test_time_alone_decides_what_was_available(account_id) -> None:
    make_lot(account_id, 10, hours=5, grace_hours=5, at=NOON)
    make_lot(account_id, 4, from_hours=7, at=NOON)

    def available(hours: float) -> int:
        as_of = NOON + hours * HOUR
        return statements.balance_as_of(account_id=account_id, as_of=as_of).available_microtokens

    assert [available(hours) for hours in (-1, 0, 4, 5, 7)] == [0, 10, 10, 0, 4]
    # What is past its time leaves the lot when it is closed.
    assert of(account_id, NOON + 6 * HOUR, END).section("prepaid").opening_microtokens == 14


def test_an_unknown_account_is_told(db: None) -> None:
    with pytest.raises(UnknownAccount):
        of(7, BEGIN, END)
    with pytest.raises(UnknownAccount):
        statements.balance_as_of(account_id=7, as_of=NOON)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 9), st.integers(-4, 4)),
        st.tuples(st.just("lot"), st.integers(1, 20), st.none() | st.integers(1, 4)),
        st.tuples(st.just("overage"), st.integers(1, 9), st.integers(1, 4)),
        st.tuples(st.just("close"), st.just(0), st.just(0)),
        st.tuples(st.just("void"), st.integers(1, 5), st.just(0)),
    ),
    max_size=8,
)


class History:
    """An hour after another something happens to an account; what its balance was then is kept."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.account_id = make_account(shop)
        self.hour = 0
        self.runs: dict[str, int] = {}
        self.balances: dict[datetime, queries.Balance] = {}

    @property
    def now(self) -> datetime:
        return NOON + self.hour * HOUR

    def step(self, kind: str, microtokens: int, hours: int | None) -> None:
        getattr(self, kind)(microtokens, hours)
        [balance] = queries.balances(account_ids=[self.account_id], at=self.now).values()
        self.balances[self.now] = balance
        self.hour += 1

    def run(self, microtokens: int, hours: int) -> None:
        run_id = f"run-{self.hour}"
        at = self.now + min(hours, 0) * HOUR
        debit(self.shop, [make_run(microtokens, run_id=run_id, at=at)], at=self.now)
        self.runs[run_id] = microtokens

    def lot(self, microtokens: int, hours: int | None) -> None:
        make_lot(
            self.account_id,
            microtokens,
            hours=None if hours is None else self.hour + hours,
            rollover_max=0 if hours is None else microtokens // 3,
            rollover_hours=None if hours is None else self.hour + hours + 3,
            at=self.now,
        )

    def overage(self, microtokens: int, hours: int) -> None:
        make_overage(
            self.account_id,
            cap_microtokens=microtokens,
            from_hours=self.hour,
            hours=self.hour + hours,
        )

    def close(self, _: int, __: int) -> None:
        while grants.expire_due(at=self.now):
            pass

    def void(self, microtokens: int, _: int) -> None:
        left = [(run_id, cost) for run_id, cost in self.runs.items() if cost]
        if left:
            run_id, cost = left[-1]
            self.runs[run_id] -= min(cost, microtokens)
            corrections.void(
                account=accounts.account(account_id=self.account_id),
                run_id=run_id,
                microtokens=min(cost, microtokens),
                reason="made up",
                idempotency_key=f"void-{self.hour}",
                at=self.now,
            )


@settings(max_examples=40)
@given(steps=steps, cuts=st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_any_history_adds_up_and_every_balance_is_found_again(shop, steps, cuts) -> None:
    with transaction.atomic():
        history = History(shop)
        for step in steps:
            history.step(*step)
        for as_of, balance in history.balances.items():
            found = statements.balance_as_of(account_id=history.account_id, as_of=as_of)
            assert found == balance
        edges = [BEGIN, *sorted({NOON + cut * HOUR for cut in cuts}), END]
        whole = of(history.account_id, BEGIN, END)
        parts = [of(history.account_id, begin, end) for begin, end in pairwise(edges)]
        for kind in ("prepaid", "overage", "debt"):
            sections = [part.section(kind) for part in parts]
            for one in [*sections, whole.section(kind)]:
                assert one.closing_microtokens == one.opening_microtokens + one.moved.microtokens
            for one, following in pairwise(sections):
                assert following.opening_microtokens == one.closing_microtokens
            assert sections[-1].closing_microtokens == whole.section(kind).closing_microtokens
            moved = whole.section(kind).moved
            for name in vars(moved):
                assert sum(getattr(one.moved, name) for one in sections) == getattr(moved, name)
        now = statements.balance_as_of(account_id=history.account_id, as_of=history.now)
        [balance] = queries.balances(account_ids=[history.account_id], at=history.now).values()
        assert now == balance
        lots = queries.lots(account_ids=[history.account_id])
        left = sum(lot.remaining_microtokens for lot in lots if lot.kind == "prepaid")
        assert whole.section("prepaid").closing_microtokens == left
        transaction.set_rollback(True)


def test_an_instant_itself_belongs_to_what_follows(account_id) -> None:
    make_lot(account_id, 10, at=NOON)
    assert of(account_id, BEGIN, NOON).lines == ()
    assert of(account_id, NOON, END).section("prepaid").moved.granted_microtokens == 10
    before = NOON - timedelta(microseconds=1)
    found = [
        statements.balance_as_of(account_id=account_id, as_of=as_of).available_microtokens
        for as_of in (before, NOON)
    ]
    assert found == [0, 10]
