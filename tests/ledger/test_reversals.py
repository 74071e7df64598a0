"""What is frozen, revoked and owed of a lot, in whatever order the reasons come."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import accounts, corrections, grants, queries, reversals, statements
from ledger.errors import IdempotencyKeyReused
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run, make_shop
from tests.ledger.builders import next_number as number
from tests.ledger.test_lots import available, debt, lot, movements


def reverse(lot_id, *, revoked=0, frozen=0, key=None, at=NOON, may_owe=True):
    done = reversals.reverse(
        lot_id=lot_id,
        revoked_microtokens=revoked,
        frozen_microtokens=frozen,
        may_owe=may_owe,
        idempotency_key=key or f"reversal-{number()}",
        at=at,
    )
    return done.frozen_microtokens, done.revoked_microtokens, done.owed_microtokens


def test_what_is_left_is_frozen_and_thawed_and_nobody_spends_it_meanwhile(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, price_micros=100)
    debit(shop, [make_run(3)])
    assert reverse(lot_id, frozen=10) == (7, 0, 0)
    debit(shop, [make_run(2)])
    assert (available(account_id), debt(account_id)) == (0, 2)
    assert reverse(lot_id) == (0, 0, 0)
    assert available(account_id) == 7
    debit(shop, [make_run(6)])
    assert available(account_id) == 1
    assert movements(lot_id)[-2:] == [("freeze", 7), ("thaw", 7)]


def test_frozen_tokens_do_not_expire_while_they_are_frozen(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, hours=5)
    assert reverse(lot_id, frozen=10) == (10, 0, 0)
    assert grants.expire_due(at=NOON + 6 * HOUR) == 0
    reverse(lot_id, at=NOON + 7 * HOUR)
    assert available(account_id, NOON + 7 * HOUR) == 0, "its time was over"
    assert grants.expire_due(at=NOON + 7 * HOUR) == 1
    assert movements(lot_id) == [("freeze", 10), ("thaw", 10), ("expire", 10)]


def test_what_comes_back_into_a_closed_lot_expires_at_once(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, hours=5)
    reverse(lot_id, frozen=4)
    assert grants.expire_due(at=NOON + 6 * HOUR) == 1
    assert reverse(lot_id) == (0, 0, 0)
    assert movements(lot_id) == [("freeze", 4), ("expire", 6), ("thaw", 4), ("expire", 4)]


def test_what_was_used_is_owed_and_the_next_grant_pays_it(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10)
    debit(shop, [make_run(8)])
    assert reverse(lot_id, revoked=10) == (0, 2, 8)
    assert (available(account_id), debt(account_id)) == (0, 8)
    make_lot(account_id, 20)
    assert (available(account_id), debt(account_id)) == (12, 0)


def test_what_expired_is_gone_and_nobody_owes_it(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, hours=5)
    debit(shop, [make_run(3)])
    grants.expire_due(at=NOON + 5 * HOUR)
    assert reverse(lot_id, revoked=10) == (0, 0, 3)
    assert debt(account_id) == 3


def test_a_free_lot_may_owe_nothing(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10)
    debit(shop, [make_run(8)])
    assert reverse(lot_id, revoked=10, may_owe=False) == (0, 2, 0)
    assert debt(account_id) == 0


def test_a_debt_that_was_repaid_comes_back_to_the_lot_that_repaid_it(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10)
    debit(shop, [make_run(8)])
    reverse(lot_id, revoked=10)
    next_id = make_lot(account_id, 20)
    assert reverse(lot_id, revoked=5) == (0, 2, 3)
    assert (available(account_id), debt(account_id)) == (17, 0)
    assert reverse(lot_id) == (0, 0, 0)
    assert lot(next_id, account_id).remaining_microtokens == 20
    assert lot(lot_id, account_id).remaining_microtokens == 2


def test_a_repayment_that_comes_back_into_a_closed_lot_expires(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10)
    debit(shop, [make_run(10)])
    reverse(lot_id, revoked=10)
    next_id = make_lot(account_id, 12, hours=5)
    grants.expire_due(at=NOON + 6 * HOUR)
    assert reverse(lot_id) == (0, 0, 0)
    assert movements(next_id)[-2:] == [("repaid", 10), ("expire", 10)]


def test_what_a_void_gave_back_is_revoked_instead_of_owed_next_time(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10)
    debit(shop, [make_run(8, run_id="a")])
    assert reverse(lot_id, revoked=10) == (0, 2, 8)
    acme = accounts.account(account_id=account_id)
    corrections.void(account=acme, run_id="a", reason="", idempotency_key="v", at=NOON + HOUR)
    assert (available(account_id), debt(account_id)) == (8, 8)
    assert reverse(lot_id, revoked=10, key="again") == (0, 10, 0)
    assert (available(account_id), debt(account_id)) == (0, 0)


def test_asked_again_under_its_key_it_changes_nothing_and_another_request_is_refused(
    shop, account_id
) -> None:
    lot_id = make_lot(account_id, 10)
    assert reverse(lot_id, frozen=4, key="k") == (4, 0, 0)
    assert reverse(lot_id, revoked=6) == (0, 6, 0)
    assert reverse(lot_id, frozen=4, key="k") == (0, 6, 0)
    with pytest.raises(IdempotencyKeyReused):
        reverse(lot_id, frozen=5, key="k")
    assert reversals.reversed_of(lot_id=lot_id).revoked_microtokens == 6


def test_a_statement_tells_what_was_frozen_and_what_was_revoked_or_is_owed(
    shop, account_id
) -> None:
    lot_id = make_lot(account_id, 10)
    debit(shop, [make_run(4)], at=NOON)
    reverse(lot_id, frozen=3, at=NOON + HOUR)
    reverse(lot_id, revoked=9, at=NOON + 2 * HOUR)
    reverse(lot_id, revoked=8, at=NOON + 3 * HOUR)

    def moved(kind, hours):
        section = statements.statement(
            account_id=account_id, from_at=NOON + hours * HOUR, until_at=NOON + (hours + 1) * HOUR
        ).section(kind)
        return section.moved.frozen_microtokens, section.moved.revoked_microtokens

    assert [moved("prepaid", hours) for hours in (1, 2, 3)] == [(-3, 0), (3, -6), (0, 0)]
    assert [moved("debt", hours) for hours in (1, 2, 3)] == [(0, 0), (0, 3), (0, -1)]
    assert queries.consumed(lot_id=lot_id, account_id=account_id) == 4


steps = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 6)),
        st.tuples(st.just("grant"), st.integers(1, 6)),
        st.tuples(st.just("reverse"), st.integers(0, 9), st.integers(0, 9)),
    ),
    min_size=2,
    max_size=7,
)


@pytest.mark.django_db
@settings(max_examples=25, deadline=None)
@given(steps=steps)
def test_whatever_came_before_the_last_word_decides(steps) -> None:
    """Only what runs took and what shall be reversed count, not the way to it."""
    shop = make_shop()
    name = f"account-{number()}"
    account_id = make_account(shop, name)
    lot_id = make_lot(account_id, 9, priority=-1)
    for step in steps:
        if step[0] == "run":
            debit(shop, [make_run(step[1], account=name)])
        elif step[0] == "grant":
            make_lot(account_id, step[1])
        else:
            reverse(lot_id, revoked=step[1], frozen=min(step[2], 9 - step[1]))
    used = queries.consumed(lot_id=lot_id, account_id=account_id)
    assert reverse(lot_id, revoked=4, frozen=5) == (
        max(0, 5 - used) if used < 5 else 0,
        min(4, 9 - used),
        max(0, 4 - (9 - used)),
    )
    assert lot(lot_id, account_id).remaining_microtokens == 0
    assert reverse(lot_id) == (0, 0, 0)
    assert lot(lot_id, account_id).remaining_microtokens == 9 - used
