"""`manage.py check_ledger`: each rule can be broken, and says so."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from msgspec.structs import replace

from ledger import accounts, corrections, folding, grants, heads, rerating, reversals
from ledger.catalog import NewRate
from ledger.intake import NewPart
from ledger.invariants import INVARIANTS, NAMES, NOTHING_LOST, STEPS, violations
from ledger.invariants.receipts import ATTRIBUTED, CHAINED
from ledger.invariants.sealed import COSTS, LEAVES
from ledger.invariants.worth import WORTH
from ledger.packing import IN_PARTS
from tests.conftest import broken_rules
from tests.ledger import broken_holds
from tests.ledger.builders import (
    HOUR,
    NOON,
    Shop,
    accept,
    debit,
    make_account,
    make_lot,
    make_overage,
    make_run,
    make_shop,
    publish_rates,
)


@pytest.fixture
def history(db: None) -> None:
    """A little of everything that a ledger can hold."""
    shop = make_shop()
    account_id = make_account(shop)
    make_account(shop, "other")
    debit(shop, [make_run(2)])
    heads.publish(at=NOON)
    make_lot(account_id, 5, price_micros=10, hours=2, rollover_max=2, rollover_hours=9)
    make_lot(account_id, 9, price_micros=10)
    debit(shop, [make_run(1, run_id="a"), make_run(4, run_id="b")])
    debit(shop, [make_run(1, run_id="c"), make_run(2, run_id="c")])
    make_lot(account_id, 20, hours=5, rollover_max=2, rollover_hours=9)
    grants.expire_due(at=NOON + 5 * HOUR)
    make_overage(account_id, cap_microtokens=5)
    debit(shop, [make_run(30, at=NOON + 5 * HOUR)])
    heads.publish(at=NOON + 6 * HOUR)
    _correct_something(shop)
    _reverse_something(shop)
    broken_holds.hold_something(shop)
    accept(shop, [make_run(1)])
    folding.fold_all()


def _correct_something(shop: Shop) -> None:
    """Of the other account: a void, a retake, a run in parts, and one that became dearer."""
    other = accounts.find(book_id=shop.book_id, code="other")
    make_lot(other.id, 4, hours=201, priority=-1)
    make_lot(other.id, 50)
    time = NOON + 200 * HOUR
    in_parts = NewPart(id="1", last=True)
    debit(shop, [make_run(7, run_id="x", account="other", at=time)])
    debit(
        shop,
        [replace(make_run(7, run_id="y", account="other", at=time), retake_of="x", part=in_parts)],
    )
    corrections.void(
        account=other,
        run_id="x",
        microtokens=2,
        reason="",
        idempotency_key="v",
        at=NOON + 300 * HOUR,
    )
    debit(shop, [make_run(1, run_id="z", account="other", at=time)])
    publish_rates(
        shop, [NewRate(meter="executions", microtokens=2)], effective_at=NOON + 100 * HOUR
    )
    plan = rerating.plan(book_id=shop.book_id, rate_card="standard", number=2)
    rerating.rerate(of=plan, reason="", idempotency_key="k", at=NOON)


def _reverse_something(shop: Shop) -> None:
    """A lot of an account of its own: frozen, lost with a part of it used, and won back."""
    account_id = make_account(shop, "buyer")
    lot_id = make_lot(account_id, 10)
    debit(shop, [make_run(4, account="buyer")])
    for key, revoked, frozen in (("r1", 0, 10), ("r2", 8, 0), ("r3", 5, 2), ("r4", 7, 0)):
        reversals.reverse(
            lot_id=lot_id,
            revoked_microtokens=revoked,
            frozen_microtokens=frozen,
            idempotency_key=key,
            at=NOON,
        )


@contextmanager
def broken_ledger(*changes: str) -> Iterator[None]:
    """The changes are made behind the triggers' back, and undone afterwards."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for change in changes:
                cursor.execute(change)
                assert cursor.rowcount > 0, change
        yield
        # Undoes the setting, too.
        transaction.set_rollback(True)


ACME = "(SELECT id FROM ledger_account WHERE code = 'acme')"
OF_ACME = f"(SELECT run_key FROM ledger_run WHERE account_id = {ACME} AND slices_count"
ONE_LOT_RUN = f"{OF_ACME} = 1 ORDER BY sequence LIMIT 1)"
CROSSING_RUN = f"{OF_ACME} > 1 ORDER BY sequence LIMIT 1)"
FIRST_LOT = "(SELECT min(id) FROM ledger_lot WHERE kind = 'prepaid')"
LOT_IN_USE = "(SELECT in_use_lot_id FROM ledger_standing WHERE in_use_lot_id IS NOT NULL LIMIT 1)"
OTHER_ACCOUNT = "(SELECT id FROM ledger_account WHERE code = 'other')"

# For each rule, something that a careless hand or a fault of ours could do.
FAULTS: dict[str, list[str]] = {
    "what is out of a lot is the sum of its movements": [
        f"UPDATE ledger_lot SET out_microtokens = 1 WHERE id = {FIRST_LOT}",
        "UPDATE ledger_standing SET in_use_out_microtokens = in_use_out_microtokens + 1"
        " WHERE in_use_lot_id IS NOT NULL",
        "DELETE FROM ledger_entry WHERE kind = 'expire'",
    ],
    "movements of a lot follow one another without gap or overlap": [
        "UPDATE ledger_run SET out_before_microtokens = out_before_microtokens + 1"
        f" WHERE run_key = {ONE_LOT_RUN} AND out_before_microtokens > 0 OR run_key IN"
        " (SELECT run_key FROM ledger_run JOIN ledger_lot ON id = lot_id"
        "  WHERE slices_count = 1 AND kind <> 'debt')",
    ],
    "an entry belongs to the account of its lot": [
        f"UPDATE ledger_entry SET account_id = {OTHER_ACCOUNT} WHERE kind = 'expire'",
    ],
    "a run's slices add up to its cost": [
        f"UPDATE ledger_run SET microtokens = microtokens + 1 WHERE run_key = {CROSSING_RUN}",
        f"DELETE FROM ledger_entry WHERE run_key = {CROSSING_RUN} AND id ="
        f" (SELECT max(id) FROM ledger_entry WHERE run_key = {CROSSING_RUN})",
        f"UPDATE ledger_run SET slices_count = 1 WHERE run_key = {CROSSING_RUN}",
    ],
    "a run that crossed lots says where its first slice is": [
        f"UPDATE ledger_run SET lot_id = lot_id + 256 WHERE run_key = {CROSSING_RUN}",
    ],
    "a debit entry belongs to a run": [
        f"DELETE FROM ledger_run WHERE run_key = {CROSSING_RUN}",
    ],
    "a lot serves only runs of its own time": [
        f"UPDATE ledger_entry SET occurred_at = '2020-01-01' WHERE run_key = {CROSSING_RUN}",
    ],
    "receipts of an account are numbered without gaps": [
        f"UPDATE ledger_run SET sequence = sequence + 1 WHERE run_key = {CROSSING_RUN}",
        f"DELETE FROM ledger_run WHERE run_key = {ONE_LOT_RUN}",
        "UPDATE ledger_standing SET runs_count = runs_count + 1",
    ],
    "a run has an account": [f"DELETE FROM ledger_standing WHERE account_id = {ACME}"],
    "a run says who it is for": ["DELETE FROM ledger_attribution"],
    "a block counts its runs, and blocks of a shard are numbered without gaps": [
        "UPDATE ledger_block SET microtokens = microtokens + 1",
        "UPDATE ledger_block SET microtokens = microtokens + 1",
        "DELETE FROM ledger_block WHERE number = 1",
        "DELETE FROM ledger_block WHERE number = (SELECT max(number) FROM ledger_block)",
        f"UPDATE ledger_run SET block_number = 1 WHERE run_key = {CROSSING_RUN}",
    ],
    "a run in conflict stands under its id with another body": [
        "UPDATE ledger_conflict SET run_key = gen_random_uuid()",
    ],
    "a submission waits whole, or is debited whole": [
        "UPDATE ledger_run SET submission_id = (SELECT id FROM ledger_intake)"
        f" WHERE run_key = {ONE_LOT_RUN}",
        "UPDATE ledger_intake SET runs_count = runs_count + 1",
        "UPDATE ledger_intake SET id = id + 1000000",
    ],
    "a lot was put in by one grant, whole": [
        "DELETE FROM ledger_entry WHERE kind = 'grant'",
        f"UPDATE ledger_entry SET microtokens = 1 WHERE kind = 'grant' AND lot_id = {FIRST_LOT}",
    ],
    "rolled tokens arrive whole, and keep what was paid for them": [
        "UPDATE ledger_lot SET price_micros = price_micros + 1, currency = 'EUR'"
        " WHERE rolled_from_lot_id IS NOT NULL",
        "UPDATE ledger_lot SET granted_microtokens = 9 WHERE rolled_from_lot_id IS NOT NULL",
    ],
    "what rolled over arrived in a lot": [
        "UPDATE ledger_lot SET rolled_from_lot_id = NULL WHERE rolled_from_lot_id IS NOT NULL",
    ],
    "a repayment takes from a lot what it gives to the debt": [
        "DELETE FROM ledger_entry WHERE kind = 'repaid'",
    ],
    "tokens leave a lot no sooner than it closes, but by use": [
        "UPDATE ledger_entry SET occurred_at = '2026-06-15 12:00Z' WHERE kind = 'expire'",
    ],
    "an account's lot in use is one of its open lots": [
        "UPDATE ledger_standing SET in_use_granted_microtokens = 7 WHERE in_use_lot_id IS NOT NULL",
        f"UPDATE ledger_lot SET open = false WHERE id = {LOT_IN_USE}",
    ],
    "an account has its standing, and only an account has one": [
        "INSERT INTO ledger_standing (shard, account_id) VALUES (7, 7)",
        f"DELETE FROM ledger_standing WHERE account_id = {OTHER_ACCOUNT}",
    ],
    "a lot is open while something is left": [
        "UPDATE ledger_lot SET open = false WHERE kind = 'debt'",
    ],
    "a code names one account of its book": [
        "INSERT INTO ledger_account (shard, id, book_id, code, name, rate_card_id,"
        " default_cost_centre, opened_at, debt_lot_id)"
        " SELECT (shard + 1) % 256, id - shard + (shard + 1) % 256, book_id, code, name,"
        " rate_card_id, default_cost_centre, opened_at, debt_lot_id FROM ledger_account"
        " WHERE code = 'acme'",
    ],
    "an account's lots are all of its currency": [
        "UPDATE ledger_account SET currency = 'USD'",
    ],
    "an account has one debt lot, and names it": [
        "UPDATE ledger_account SET debt_lot_id = debt_lot_id + 256",
        f"DELETE FROM ledger_lot WHERE kind = 'debt' AND account_id = {OTHER_ACCOUNT}",
    ],
    COSTS: [
        f"UPDATE ledger_run SET microtokens = microtokens + 1 WHERE run_key = {ONE_LOT_RUN}",
        "DELETE FROM ledger_submission",
        "UPDATE ledger_submission SET details = 'broken'",
        "UPDATE ledger_run SET submission_position = 1 - submission_position WHERE submission_id ="
        " (SELECT submission_id FROM ledger_run WHERE part = 0 GROUP BY 1 HAVING count(*) = 2)",
    ],
    "a parked run that was priced is debited, or another holds its id": [
        "INSERT INTO ledger_parkedrun (shard, batch_id, position, account_id, run_key, occurred_at,"
        " parked_at, reason, body, body_digest, priced_at) SELECT shard, gen_random_uuid(), 0, id,"
        " gen_random_uuid(), now(), now(), '', '', 0, now() FROM ledger_account"
        f" WHERE id = {OTHER_ACCOUNT}",
    ],
    WORTH: [
        f"UPDATE ledger_run SET micros = micros + 1 WHERE run_key = {ONE_LOT_RUN}",
        f"UPDATE ledger_run SET micros = micros - 1 WHERE run_key = {CROSSING_RUN}",
        "UPDATE ledger_lot SET price_micros = price_micros * 2 WHERE price_micros > 0",
        "UPDATE ledger_lot SET tiers = jsonb_set(tiers, '{steps}', '[[null, 3]]')"
        " WHERE tiers IS NOT NULL",
    ],
    LEAVES: [
        f"UPDATE ledger_run SET micros = micros + 1 WHERE run_key = {ONE_LOT_RUN}",
        f"UPDATE ledger_run SET block_number = 1 WHERE run_key = {CROSSING_RUN}",
        f"UPDATE ledger_entry SET lot_id = lot_id + 256 WHERE run_key = {CROSSING_RUN}",
        f"DELETE FROM ledger_run WHERE run_key = {CROSSING_RUN}",
        "DELETE FROM ledger_block WHERE number = 2",
        "UPDATE ledger_block SET leaves = overlay(leaves PLACING '\\x00' FROM 1 FOR 1)",
        "UPDATE ledger_block SET first_submission_id = first_submission_id - 1 WHERE number = 2",
        # A leaf that has no runs.
        "UPDATE ledger_block SET leaves = leaves || root WHERE number = 2",
        # The same sum, for another engine.
        "UPDATE ledger_submission SET details = overlay(details PLACING 'E'::bytea"
        " FROM position('engine'::bytea IN details) FOR 1)",
    ],
    "each correction is the leaf that its block has at its position": [
        "UPDATE ledger_correction SET recorded_at = recorded_at + interval '1 microsecond'"
        " WHERE kind = 'void'",
        "UPDATE ledger_correction SET details = details || ' ' WHERE kind = 'rerate'",
        "UPDATE ledger_correction SET micros = micros + 1 WHERE kind = 'retaken'",
        "UPDATE ledger_correction SET block_position = block_position + 1",
        "UPDATE ledger_correction SET block_position = block_position + 16",
    ],
    CHAINED: [
        "UPDATE ledger_block SET recorded_at = recorded_at + interval '1 microsecond'",
        "UPDATE ledger_block SET root = previous_hash WHERE number = 2",
        "UPDATE ledger_block SET previous_hash = hash WHERE number = 2",
        "UPDATE ledger_block SET hash = root WHERE number = 1",
        "UPDATE ledger_block SET leaves = overlay(leaves PLACING '\\x00' FROM 1 FOR 1)",
        "DELETE FROM ledger_block WHERE number = 2",
    ],
    ATTRIBUTED: ["UPDATE ledger_attribution SET department = 'theirs'"],
    "a published head is a block of its chain, and heads only grow": [
        "DELETE FROM ledger_block WHERE number = (SELECT max(number) FROM ledger_head)",
        "UPDATE ledger_head SET hash = sha256(hash)",
        "UPDATE ledger_head SET published_at = '2020-01-01' WHERE number > 1",
    ],
    "usage by day, by month and of a whole account is the sum of the rung below": [
        f"UPDATE ledger_usage SET rework_micros = rework_micros + 1 WHERE rung = {rung}"
        for rung in (1, 2, 3, 4, 5)
    ]
    + ["DELETE FROM ledger_usage WHERE rung = 2"],
    "usage is what the blocks that are folded add": [
        "UPDATE ledger_usage SET runs_count = runs_count + 1",
        "DELETE FROM ledger_usage WHERE rung = 1",
        "UPDATE ledger_usagefold SET folded_number = folded_number - 1",
        "UPDATE ledger_account SET time_zone = 'Asia/Kolkata' WHERE code = 'acme'",
    ],
    "blocks add to usage what their runs and corrections cost": [
        "UPDATE ledger_block SET micros = micros + 1",
        # Another quarter of an hour; another account.
        "UPDATE ledger_block SET totals = set_byte(totals, 24, get_byte(totals, 24) # 1)",
        "UPDATE ledger_block SET totals = set_byte(totals, 1, get_byte(totals, 1) # 1)",
        "UPDATE ledger_run SET engine_id = engine_id + 1",
        f"UPDATE ledger_run SET flags = 1 WHERE run_key = {ONE_LOT_RUN}",
    ],
    NOTHING_LOST: [
        "DELETE FROM ledger_intake",
        f"DELETE FROM ledger_run WHERE run_key = {ONE_LOT_RUN}",
    ],
}
FAULTS |= {
    "nothing is thawed, restored or forgiven that was not taken before": [
        "UPDATE ledger_entry SET microtokens = 9 WHERE kind = 'thaw'",
        "UPDATE ledger_entry SET kind = 'restore' WHERE kind = 'revoke'",
        "UPDATE ledger_entry SET kind = 'forgive' WHERE kind = 'owe'",
    ],
    "no more of a lot is frozen, revoked and owed than was granted": [
        "UPDATE ledger_entry SET microtokens = 11 WHERE kind = 'owe'",
    ],
    "what a reversal takes it takes of its own lot, and what is owed stands in the debt lot": [
        "UPDATE ledger_entry SET operation_key = 'nobody' WHERE kind = 'freeze'",
        "UPDATE ledger_operation SET kind = 'grant' WHERE kind = 'reverse'",
        "UPDATE ledger_entry SET lot_id = (SELECT lot_id FROM ledger_operation WHERE key = 'r1')"
        " WHERE kind = 'owe'",
        "UPDATE ledger_entry SET lot_id = (SELECT debt_lot_id FROM ledger_account"
        " WHERE code = 'buyer') WHERE kind = 'revoke'",
    ],
    "corrections of a run are numbered on from its first version without gaps": [
        "UPDATE ledger_correction SET version = 9 WHERE kind = 'rerate'",
        "DELETE FROM ledger_correction WHERE kind = 'retaken'",
        "UPDATE ledger_correction SET run_key = gen_random_uuid() WHERE kind = 'retaken'",
    ],
    "a correction moves what its entries move": [
        "UPDATE ledger_correction SET microtokens = microtokens + 1 WHERE kind = 'void'",
        "DELETE FROM ledger_correction WHERE kind = 'void'",
        "DELETE FROM ledger_entry WHERE kind = 'charge'",
    ],
    "what expires otherwise than by its lot's closing was given back just before": [
        "UPDATE ledger_entry SET microtokens = microtokens + 1 WHERE kind = 'expire'"
        " AND operation_key LIKE 'correction:%'",
        "DELETE FROM ledger_entry WHERE kind = 'return'",
    ],
    "a run costs nothing less than nothing, whatever was given back": [
        "UPDATE ledger_correction SET microtokens = -100 WHERE kind = 'void'",
    ],
    "what a correction charges is drawn from lots of the run's own time": [
        "UPDATE ledger_lot SET effective_at = '2027-01-01' WHERE id IN"
        " (SELECT lot_id FROM ledger_entry WHERE kind = 'charge')",
    ],
    "a run in parts has a row that costs nothing, and parts": [
        "DELETE FROM ledger_run WHERE part <> 0",
        "DELETE FROM ledger_partedrun",
        f"UPDATE ledger_run SET flags = flags - {IN_PARTS} WHERE flags & {IN_PARTS} <> 0",
        f"UPDATE ledger_run SET microtokens = 1, slices_count = 1 WHERE flags & {IN_PARTS} <> 0",
    ],
    "a retake is noted, and a run that is marked retaken has one": [
        "DELETE FROM ledger_retake",
        "UPDATE ledger_retake SET marked_at = NULL",
        "UPDATE ledger_retake SET retaken_key = gen_random_uuid()",
    ],
}
FAULTS |= broken_holds.FAULTS
CASES = [(name, change) for name, changes in FAULTS.items() for change in changes]


def test_a_fault_is_known_for_every_rule() -> None:
    assert set(FAULTS) == set(NAMES)
    assert set(INVARIANTS) < set(NAMES)


def test_a_broken_rule_is_found(history: None, subtests: pytest.Subtests) -> None:
    for name, change in CASES:
        with subtests.test(name, change=change), broken_ledger(change):
            assert name in violations()
            assert name in broken_rules()


def told(command: Callable[[StringIO, StringIO], object]) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    command(out, err)
    return out.getvalue(), err.getvalue()


def test_a_sound_ledger_is_told_in_a_sentence(history: None) -> None:
    out, err = told(lambda out, err: call_command("check_ledger", stdout=out, stderr=err))
    assert out == f"The ledger is sound: {len(NAMES)} rules hold.\n"
    assert err == ""


def test_a_sound_ledger_is_told_as_json(history: None) -> None:
    out, _ = told(lambda out, err: call_command("check_ledger", "--json", stdout=out, stderr=err))
    assert json.loads(out) == {"sound": True, "checked": len(NAMES), "broken": {}}


def test_what_is_broken_is_named_row_by_row_and_the_command_fails(history: None) -> None:
    err = StringIO()
    is_other = f"kind = 'debt' AND account_id = {OTHER_ACCOUNT}"
    with broken_ledger(f"UPDATE ledger_lot SET open = false WHERE {is_other}"):
        with pytest.raises(CommandError, match=r"not sound: 1 of \d+ rules broken"):
            call_command("check_ledger", stderr=err)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM ledger_lot WHERE {is_other}")
            [lot_id] = cursor.fetchone()
    assert err.getvalue().splitlines() == [
        "BROKEN  a lot is open while something is left",
        f"        {lot_id}",
    ]


def test_what_is_broken_is_told_as_json_and_the_command_exits_with_1(history: None) -> None:
    out = StringIO()
    change = f"DELETE FROM ledger_attribution WHERE account_id = {OTHER_ACCOUNT}"
    with broken_ledger(change), pytest.raises(SystemExit) as end:
        call_command("check_ledger", "--json", stdout=out)
    assert end.value.code == 1
    answer = json.loads(out.getvalue())
    assert not answer["sound"]
    assert list(answer["broken"]) == ["a run says who it is for"]


def test_a_database_without_a_ledger_is_told_plainly(db: None) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW ledger_lot_now")
        with pytest.raises(CommandError, match=r"run manage\.py migrate"):
            call_command("check_ledger")
        transaction.set_rollback(True)


def test_its_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command("check_ledger", "--help")
    assert "manage.py check_ledger --json" in capsys.readouterr().out


def test_read_ahead_over_connections_of_its_own_the_same_is_found(
    transactional_db: None, shop
) -> None:
    make_account(shop)
    debit(shop, [make_run(number) for number in range(5)])
    steps: list[int] = []
    assert violations(two_at_once=True, progress=lambda name, done: steps.append(done)) == {}
    assert sum(steps) == STEPS
    change_engines("77 WHERE sequence = 3")
    broken = violations(two_at_once=True)
    assert LEAVES in broken
    assert broken == violations()
    change_engines("(SELECT max(id) FROM ledger_engine)")


def change_engines(to: str) -> None:
    """For good, so that every connection sees it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(f"UPDATE ledger_run SET engine_id = {to}")
