"""Whatever happened to an account, what runs cost is what they took less what was given back."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import accounts, corrections, grants, queries, receipts
from ledger.accounts import AccountFacts
from tests.ledger.builders import (
    HOUR,
    NOON,
    SMALL_TIERS,
    Shop,
    debit,
    make_account,
    make_lot,
    make_overage,
    make_run,
    next_number,
)

# Small numbers, so that bounds coincide often.
AMOUNTS = st.integers(1, 9)
HOURS = st.integers(0, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), AMOUNTS, HOURS),
        st.tuples(st.just("grant"), AMOUNTS, HOURS),
        st.tuples(st.just("overage"), AMOUNTS, HOURS),
        st.tuples(st.just("close"), AMOUNTS, HOURS),
        st.tuples(st.just("void"), AMOUNTS, HOURS),
    ),
    min_size=4,
    max_size=14,
)


@dataclass
class Played:
    """An account, and what its runs should cost by now."""

    shop: Shop
    account: AccountFacts
    costs: dict[str, int] = field(default_factory=dict)
    now: int = 0  # hours after NOON

    def play(self, step: str, amount: int, hour: int) -> None:
        getattr(self, step)(amount, hour)

    def run(self, amount: int, hour: int) -> None:
        run_id = f"run-{next_number()}"
        run = make_run(amount, run_id=run_id, account=self.account.code, at=NOON + hour * HOUR)
        debit(self.shop, [run])
        self.costs[run_id] = amount

    def grant(self, amount: int, hour: int) -> None:
        make_lot(
            self.account.id,
            amount,
            price_micros=amount * 7 + 1,
            priority=hour % 2,
            from_hours=-9,
            hours=hour + 1 if hour else None,
            rollover_max=amount // 2 if hour else 0,
            rollover_hours=hour + 3 if hour else None,
        )

    def overage(self, amount: int, hour: int) -> None:
        make_overage(
            self.account.id,
            tiers=SMALL_TIERS[amount % 3],
            cap_microtokens=amount,
            from_hours=hour,
            hours=hour + 1,
        )

    def close(self, amount: int, hour: int) -> None:
        self.now = max(self.now, hour)
        while grants.expire_due(at=NOON + self.now * HOUR):
            pass

    def void(self, amount: int, hour: int) -> None:
        left = [run_id for run_id, cost in self.costs.items() if cost]
        if left:
            self.give_back(left[hour % len(left)], amount)

    def give_back(self, run_id: str, microtokens: int) -> None:
        given = min(microtokens, self.costs[run_id])
        corrected = corrections.void(
            account=self.account,
            run_id=run_id,
            microtokens=given,
            reason="",
            idempotency_key=f"void-{next_number()}",
            at=NOON + self.now * HOUR,
        )
        assert corrected.microtokens == -given
        self.costs[run_id] -= given

    def consumed(self) -> int:
        lots = {lot.id: lot.account_id for lot in queries.lots(account_ids=[self.account.id])}
        return sum(queries.all_consumed(lots=lots).values())


@settings(max_examples=25)
@given(steps=STEPS)
def test_runs_cost_what_they_took_less_what_was_given_back(shop: Shop, steps) -> None:
    account_id = make_account(shop, f"account-{next_number()}")
    played = Played(shop=shop, account=accounts.account(account_id=account_id))
    for step in steps:
        played.play(*step)
        assert played.consumed() == sum(played.costs.values())
    for run_id, cost in played.costs.items():
        receipt = receipts.receipt(account=played.account, run_id=run_id)
        assert receipt.microtokens == cost
        assert sum(drawn.microtokens for drawn in receipt.drawn) == cost
    for run_id in played.costs:
        if played.costs[run_id]:
            played.give_back(run_id, played.costs[run_id])
    assert played.consumed() == 0
    balance = queries.balances(account_ids=[account_id], at=NOON)[account_id]
    assert balance.debt_microtokens == 0
