"""What a careless hand could do to holds and limits: tests/ledger/test_check_ledger.py does it."""

from ledger import limits
from ledger.limits import NewLimit
from tests.ledger.builders import NOON, Shop, debit, make_account, make_lot, make_run
from tests.ledger.holding import hold

FAULTS: dict[str, list[str]] = {
    "an account counts what its open holds hold": [
        "UPDATE ledger_standing SET held_microtokens = held_microtokens + 1 WHERE account_id ="
        " (SELECT id FROM ledger_account WHERE code = 'holding')",
        "UPDATE ledger_standing SET open_holds_count = 9 WHERE account_id ="
        " (SELECT id FROM ledger_account WHERE code = 'holding')",
        "DELETE FROM ledger_hold WHERE run_id = 'held'",
    ],
    "an account counts its limits": [
        "UPDATE ledger_standing SET limits_count = 0 WHERE account_id ="
        " (SELECT id FROM ledger_account WHERE code = 'holding')",
        "UPDATE ledger_limit SET ended_at = now() WHERE is_hard",
    ],
    "a hold is captured if its run is debited, and only then": [
        "UPDATE ledger_hold SET captured_at = now(), counted_microtokens = 0, due_at = NULL"
        " WHERE run_id = 'held'",
        "UPDATE ledger_hold SET captured_at = NULL, due_at = now() WHERE run_id = 'captured'",
    ],
    "a hold that waits has a review that nobody has answered": [
        "UPDATE ledger_limitreview SET answered_at = now(), until_at = now(), is_allowed = true",
        "UPDATE ledger_hold SET review_id = 9 WHERE run_id = 'waits'",
    ],
    "what a limit has used is what its runs cost": [
        "UPDATE ledger_limituse SET used = used + 1 WHERE used > 0",
        "DELETE FROM ledger_limituse WHERE used > 0",
        "UPDATE ledger_limit SET scope_value = 'other' WHERE scope = 'workflow'",
    ],
    "what is held of a limit is what its open holds hold": [
        "UPDATE ledger_limituse SET held = held + 1 WHERE held > 0",
        "UPDATE ledger_limituse SET period_start = period_start - interval '1 day' WHERE held > 0",
    ],
    "an excess is a debited run's, beyond its limit": [
        "UPDATE ledger_limitexcess SET used_after = used_after + 1",
        "UPDATE ledger_limitexcess SET run_key = gen_random_uuid()",
        "UPDATE ledger_limit SET cap = 1000 WHERE is_hard",
    ],
}


def hold_something(shop: Shop) -> None:
    """An account with a hold of each kind, and with limits that were reached."""
    account_id = make_account(shop, "holding")
    make_lot(account_id, 100)
    for is_hard, cap in ((True, 20), (False, 12)):
        new = NewLimit(scope="workflow", period="day", cap=cap, hard=is_hard, value="review")
        limits.set_limit(account_id=account_id, limit=new, idempotency_key=f"limit-{cap}", at=NOON)
    hold(shop, 3, run="held", account="holding")
    hold(shop, 4, run="captured", account="holding")
    hold(shop, 9, run="waits", account="holding")
    debit(shop, [make_run(25, run_id="captured", account="holding")], at=NOON)
