"""An account whose payment is overdue: no new holds, and everything else as ever."""

import pytest

from ledger import overdue, queries, reviews
from ledger.errors import InsufficientTokens, PaymentOverdue, UnknownAccount
from ledger.models import Run
from ledger.reviews import Answer
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run
from tests.ledger.holding import available, capture, hold, limit, status


def test_no_new_hold_is_given_and_those_that_stand_are_captured(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 10, run="r-1")
    for _ in range(2):
        overdue.refuse_holds(account_id=account_id, at=NOON)
    with pytest.raises(PaymentOverdue) as refusal:
        hold(shop, 1, run="r-2")
    assert (refusal.value.code, refusal.value.account) == ("payment_overdue", "acme")
    assert hold(shop, 10, run="r-1").run_id == "r-1", "what was given before is told again"
    capture(shop, make_run(7, run_id="r-1"))
    assert status(shop, "r-1") == "captured"
    assert available(account_id) == 93


def test_runs_that_happened_are_debited_all_the_same(shop, account_id) -> None:
    make_lot(account_id, 100)
    overdue.refuse_holds(account_id=account_id, at=NOON)
    debit(shop, [make_run(30, run_id="r-1")])
    assert Run.objects.count() == 1
    balances = queries.balances(account_ids=[account_id], at=NOON)
    assert balances[account_id].available_microtokens == 70


def test_the_moment_it_is_settled_holds_are_given_again(shop, account_id) -> None:
    make_lot(account_id, 10)
    overdue.refuse_holds(account_id=account_id, at=NOON)
    overdue.refuse_holds(account_id=account_id, at=NOON + HOUR)
    assert overdue.since(account_ids=[account_id]) == {account_id: NOON}
    for _ in range(2):
        overdue.allow_holds(account_id=account_id)
    assert overdue.since(account_ids=[account_id]) == {}
    hold(shop, 10)
    with pytest.raises(InsufficientTokens):
        hold(shop, 1)


def test_another_account_is_none_the_worse(shop, account_id) -> None:
    other = make_account(shop, code="other")
    make_lot(other, 10)
    overdue.refuse_holds(account_id=account_id, at=NOON)
    hold(shop, 10, account="other")
    assert overdue.since(account_ids=[account_id, other]) == {account_id: NOON}


def test_a_hold_that_waits_for_an_answer_is_refused_when_it_is_allowed_meanwhile(
    shop, account_id
) -> None:
    make_lot(account_id, 100)
    limit(account_id, 5, hard=False)
    hold(shop, 10, run="r-1")
    overdue.refuse_holds(account_id=account_id, at=NOON)
    [review] = reviews.waiting(account_ids=[account_id])
    answer = Answer(allow=True, reason="go on")
    reviews.answer(account_id=account_id, review_id=review.id, answer=answer, at=NOON)
    assert status(shop, "r-1") == "refused"


def test_an_account_that_is_none_is_told(db) -> None:
    for change in (
        lambda: overdue.refuse_holds(account_id=1, at=NOON),
        lambda: overdue.allow_holds(account_id=1),
    ):
        with pytest.raises(UnknownAccount):
            change()
