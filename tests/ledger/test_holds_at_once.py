"""Real threads on committed data: whoever races, no token is held twice, and no cap is passed."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import transaction
from django.db.models import F

from ledger import accounts, debiting, grants, holds, limits, queries
from ledger.errors import InsufficientTokens, LedgerError, LimitReached
from ledger.held import HoldNow
from ledger.models import Hold, Run, Standing
from ledger.sql import prepared
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    accept,
    debit,
    make_account,
    make_lot,
    make_run,
)
from tests.ledger.holding import available, capture, hold, limit, new_hold, release, used
from tests.ledger.test_concurrency import in_parallel

pytestmark = pytest.mark.django_db(transaction=True)


def tried(shop, microtokens: int, **more) -> str:
    try:
        return hold(shop, microtokens, **more).status(NOON)
    except LedgerError as refusal:
        return refusal.code


def test_twenty_holds_of_ten_find_a_hundred_tokens(shop, account_id) -> None:
    """Ten succeed, whichever they are; nothing is left, and nothing is held twice."""
    make_lot(account_id, 60)
    make_lot(account_id, 40)
    answers = in_parallel([lambda: tried(shop, 10)] * 20)
    assert Counter(answers) == {"held": 10, InsufficientTokens.code: 10}
    assert available(account_id) == 0


@pytest.mark.parametrize("is_new", [True, False])
def test_eight_holds_of_three_share_a_cap_of_ten(shop, account_id, is_new) -> None:
    """Three are admitted, for a cost centre that was never seen before, too."""
    make_lot(account_id, 1_000)
    limit(account_id, 10, scope="cost_centre")
    if not is_new:
        release(shop, hold(shop, 1, cost_centre="legal").run_id)
    answers = in_parallel([lambda: tried(shop, 3, cost_centre="legal")] * 8)
    assert Counter(answers) == {"held": 3, LimitReached.code: 5}
    assert used(account_id) == {"legal": (0, 9)}


def test_one_hold_asked_for_by_many_is_one_hold(shop, account_id) -> None:
    make_lot(account_id, 100)
    assert Counter(in_parallel([lambda: tried(shop, 30, run="r")] * 12)) == {"held": 12}
    assert Hold.objects.count() == 1
    assert available(account_id) == 70


def test_a_hold_captured_and_released_by_many_is_settled_once(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 30, run="r")
    run = make_run(20, run_id="r")

    def charge() -> str:
        try:
            capture(shop, run)
        except LedgerError as refusal:
            return refusal.code
        return "charged"

    def give_back() -> str:
        return release(shop, "r").status(NOON)

    answers = Counter(in_parallel([charge, give_back] * 6))
    debiting.drain_all(at=NOON)
    one = Hold.objects.get()
    if one.captured_at is None:
        assert answers == {"hold_released": 6, "released": 6}
        assert available(account_id) == 100
    else:
        assert answers["charged"] == 6
        assert one.released_at is None
        assert available(account_id) == 80
        assert Run.objects.count() == 1


def test_the_charge_wins_whoever_releases_meanwhile(shop, account_id) -> None:
    """A stop button is pressed while usage is recorded: freed tokens are never spent twice."""
    make_lot(account_id, 100)
    names = [f"r{n}" for n in range(8)]
    for name in names:
        hold(shop, 10, run=name)
    works: list[Callable[[], object]] = []
    for name in names:
        works.append(partial(debit, shop, [make_run(10, run_id=name)], at=NOON))
        works.append(partial(release, shop, name))
        works.append(partial(tried, shop, 10))
    in_parallel(works)
    debiting.drain_all(at=NOON)
    assert Run.objects.count() == 8
    assert set(Hold.objects.filter(run_id__in=names).values_list("due_at", flat=True)) == {None}
    left = queries.balances(account_ids=[account_id], at=NOON)[account_id].available_microtokens
    assert left == 20


def test_holds_debits_and_grants_of_one_account_race_and_every_hold_was_covered(
    shop, account_id
) -> None:
    """Runs cost what was held for them: so no run, ever, finds its tokens gone."""
    make_lot(account_id, 300)
    other = make_account(shop, "other")
    make_lot(other, 300)

    def work(prefix: str, account: str) -> None:
        for n in range(12):
            run = f"{prefix}-{n}"
            if tried(shop, 7, run=run, account=account) != "held":
                continue
            if n % 4 == 3:
                release(shop, run, account=account)
            else:
                debit(shop, [make_run(7, run_id=run, account=account)], at=NOON)

    def grant() -> None:
        for n in range(6):
            make_lot(account_id, 5, key=f"grant {n}", priority=n % 3 - 1)

    accounts_by_turn = ["acme", "other"] * 4
    works = [partial(work, f"w{n}", account) for n, account in enumerate(accounts_by_turn)]
    in_parallel([*works, grant, lambda: [holds.sweep(at=NOON) for _ in range(5)]])
    for one in (account_id, other):
        balance = queries.balances(account_ids=[one], at=NOON)[one]
        assert balance.debt_microtokens == 0
        assert available(one) == balance.available_microtokens
    assert set(Standing.objects.values_list("held_microtokens", flat=True)) == {0}


def test_batches_over_many_accounts_and_debits_of_them_do_not_deadlock(shop) -> None:
    codes = [f"a{n}" for n in range(12)]
    for code in codes:
        make_lot(make_account(shop, code), 1_000)

    def ask(order: list[str], prefix: str) -> int:
        missed = 0
        for n in range(6):
            asked = [new_hold(1, run=f"{prefix}-{n}", account=code) for code in order]
            requests = [holds.estimate(book_id=shop.book_id, hold=one, at=NOON) for one in asked]
            with transaction.atomic():
                outcomes = holds.authorize(requests=requests, at=NOON)
            assert all(isinstance(one, HoldNow) for one in outcomes if one is not None)
            missed += outcomes.count(None)
        return missed

    def send(prefix: str) -> None:
        for n in range(6):
            debit(shop, [make_run(1, run_id=f"{prefix}-{n}", account=code) for code in codes])

    missed = in_parallel(
        [
            lambda: ask(codes, "x"),
            lambda: ask(codes[::-1], "y"),
            lambda: send("x"),
            lambda: send("y"),
        ]
    )
    asked_for = 2 * 6 * 12 - sum(one for one in missed if one)
    # A hold for a run that was debited first is refused: that is no hold either.
    assert Hold.objects.count() <= asked_for
    assert Run.objects.count() == 2 * 6 * 12


def test_an_account_that_is_busy_is_passed_by_and_others_are_decided(shop, account_id) -> None:
    make_lot(account_id, 10)
    free = make_account(shop, "free")
    make_lot(free, 10)
    requests = [
        holds.estimate(book_id=shop.book_id, hold=new_hold(3, account=code), at=NOON)
        for code in ("acme", "free")
    ]

    def ask() -> list[bool]:
        return [one is None for one in holds.authorize(requests=requests, at=NOON)]

    with transaction.atomic():
        Standing.objects.filter(account_id=account_id).update(runs_count=F("runs_count"))
        assert in_parallel([ask]) == [[True, False]]
    assert in_parallel([ask]) == [[False, False]]


def test_a_limit_set_while_runs_are_debited_misses_none(shop, account_id) -> None:
    make_lot(account_id, 1_000)

    def send() -> None:
        for _ in range(15):
            debit(shop, [make_run(2)], at=NOON)

    in_parallel([send, send, lambda: limit(account_id, 50, scope="workflow")])
    assert used(account_id) == {"review": (60, 0)}


def test_a_crash_between_any_two_statements_of_a_debit_leaves_hold_and_run_as_they_were(
    shop, account_id
) -> None:
    """And the retry settles both, once."""
    make_lot(account_id, 100)
    limit(account_id, 90)
    hold(shop, 30, run="r")
    accept(shop, [make_run(20, run_id="r")], at=NOON)
    crashes = 0
    while True:
        statements = _Crash(after=crashes)
        try:
            with transaction.atomic(), statements:
                debiting.drain_block(shard=shard_of(account_id), at=NOON)
        except _Crashed:
            crashes += 1
            assert available(account_id) == 70
            assert not Run.objects.exists()
            continue
        break
    assert crashes > 10
    assert available(account_id) == 80
    assert used(account_id) == {"": (20, 0)}
    assert Hold.objects.get().captured_at == NOON


class _Crashed(Exception):
    pass


class _Crash:
    """Lets so many statements pass, and then none."""

    def __init__(self, *, after: int) -> None:
        self.left = after
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        for sender, names in (
            (psycopg.Cursor, ("execute",)),
            (prepared, ("send", "give")),
        ):
            for name in names:
                self.patch.setattr(sender, name, self._counted(getattr(sender, name)))

    def __exit__(self, *error: object) -> None:
        self.patch.undo()

    def _counted(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            if self.left == 0:
                raise _Crashed
            self.left -= 1
            return send(*arguments, **named)

        return counting


def test_expiry_of_lots_and_holds_race(shop, account_id) -> None:
    make_lot(account_id, 50, hours=1, rollover_max=10, rollover_hours=5)
    make_lot(account_id, 20)
    for n in range(5):
        hold(shop, 10, run=f"r{n}")
    in_parallel(
        [
            lambda: grants.expire_due(at=NOON + HOUR),
            lambda: holds.sweep(at=NOON + HOUR),
            lambda: debit(shop, [make_run(10, run_id="r1")], at=NOON + HOUR),
            lambda: tried(shop, 20, at=NOON + HOUR),
            lambda: limits.limits(account_id=account_id, at=NOON),
        ]
    )
    assert accounts.account(account_id=account_id).code == "acme"
    held = Standing.objects.get(account_id=account_id).held_microtokens
    assert held in (0, 20)
