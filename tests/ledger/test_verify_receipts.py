"""The verifier finds what was changed in an export, and in the ledger before it was exported."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from ledger import accounts, heads, proofs, verify_receipts
from ledger.invariants import violations
from ledger.invariants.sealed import LEAVES
from ledger.units import shard_of_code
from ledger.verify_receipts import LinesChecker, main, of_folder
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run, make_shop
from tests.ledger.test_check_ledger import broken_ledger

SCRIPT = Path(__file__).parents[2] / "ledger/verify_receipts.py"


@dataclass
class Exported:
    folder: Path
    kept: Path


@pytest.fixture
def shop(db: None):
    """Three blocks: of acme alone, of acme and another, of another alone; then acme's again."""
    shop = make_shop()
    account_id = make_account(shop)
    # Accounts of one shard: they share blocks.
    other = next(code for code in map(str, range(10_000)) if shard(shop, code) == account_id & 255)
    make_account(shop, other)
    make_lot(account_id, 9, price_micros=10)
    debit(shop, [make_run(number, run_id=f"a{number}") for number in range(1, 4)])
    heads.publish(at=NOON)
    debit(
        shop,
        [
            make_run(5, run_id="crossing", workflow="überprüfen\u2028"),
            *[make_run(1, account=other) for _ in range(4)],
            make_run(0, run_id="free"),
        ],
    )
    debit(shop, [make_run(1, account=other)])
    heads.publish(at=NOON + HOUR)
    debit(shop, [make_run(3, run_id="last", cost_centre='"\x7f\x1f')])
    return shop


def shard(shop, code: str) -> int:
    return shard_of_code(book_id=shop.book_id, code=code, shards=settings.SHARDS_IN_USE)


def export(shop, folder: Path, **options: Any) -> Path:
    account = accounts.find(book_id=shop.book_id, code="acme")
    proofs.export(account=account, folder=folder, at=NOON, **options)
    return folder


@pytest.fixture
def exported(shop, tmp_path: Path) -> Exported:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(heads.as_document(heads.published(at=NOON + 2 * HOUR))))
    return Exported(export(shop, tmp_path / "acme"), kept)


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code = main([*map(str, arguments), "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if answer["sound"] else 1)
    return answer


def test_an_export_as_it_was_written_is_sound(exported, capsys) -> None:
    answer = verify(capsys, exported.folder, "--heads", exported.kept)
    assert answer == {
        "sound": True, "account": "acme", "receipts": 6, "blocks": 4, "heads": 2, "findings": [],
    }  # fmt: skip


def change(path: Path, before: str, after: str, *, count: int = 1) -> None:
    text = path.read_text("utf-8")
    assert before in text, before
    path.write_text(text.replace(before, after, count), "utf-8")


def lines_of(folder: Path) -> list[str]:
    return (folder / "receipts.jsonl").read_text("utf-8").splitlines(keepends=True)


def put(folder: Path, lines: list[str]) -> None:
    (folder / "receipts.jsonl").write_text("".join(lines), "utf-8")


# Of the line of the run "a2", receipt 2 of block 1: what it says, and what it is made to say.
EDITS = {
    "the block": ('[["R",1,1,', '[["R",2,1,'),
    "the position": ('[["R",1,1,', '[["R",1,2,'),
    "the key": ('[["R",1,1,"', '[["R",1,1,"0'),
    "the number": (",0,2,1781", ",0,3,1781"),
    "the time": (",0,2,1781", ",0,2,1881"),
    "the cost": (",2,2,", ",3,2,"),
    "the account in its details": ('["a2",', '["a2",1'),
    "the id": ('["a2",', '["a1",'),
    "the engine": ('"engine"', '"ENGINE"'),
    "the quantities": ('"executions":2', '"executions":1'),
    "whom it is for": ('"review"', '"rework"'),
    "the cost centre": ('"sales"', '"Sales"'),
    "its end": ("null]]", "null]}"),
}


def test_an_edit_is_found_and_its_block_and_receipt_are_named(
    exported, capsys, subtests: pytest.Subtests
) -> None:
    untouched = lines_of(exported.folder)
    for name, (before, after) in EDITS.items():
        with subtests.test(name):
            lines = untouched.copy()
            assert before in lines[1], lines[1]
            lines[1] = lines[1].replace(before, after, 1)
            put(exported.folder, lines)
            answer = verify(capsys, exported.folder)
            assert not answer["sound"]
            assert answer["findings"][0]["block"] == 1
            if name not in ("the block", "the position", "the key", "its end"):
                # Itself, or the first of those that are sealed together with it.
                assert {1, 2} & {one["receipt"] for one in answer["findings"]}


def test_an_edit_that_mends_its_own_check_still_does_not_lead_to_the_root(exported, capsys) -> None:
    lines = lines_of(exported.folder)
    lines[1] = lines[1].replace(",0,2,1781", ",0,2,1782")
    put(exported.folder, lines)
    [told] = re.findall(r"[0-9a-f]{16}(?=\"\],\[)", lines[1])
    # What its maker would have to write: try the checker's own arithmetic.
    check = check_of(lines[:3], exported)
    put(exported.folder, [line.replace(told, check) for line in lines])
    answer = verify(capsys, exported.folder)
    assert [one["message"] for one in answer["findings"]] == [
        "its receipts do not lead to its root"
    ]


def check_of(lines: list[str], exported: Exported) -> str:
    checker = LinesChecker(of_folder(exported.folder).account, frozenset())
    [(_, leaf)] = checker._leaves([checker._line(line.rstrip("\n")) for line in lines])
    return leaf.hex()[:16]


def test_a_receipt_that_is_left_out_is_missed(exported, capsys) -> None:
    lines = lines_of(exported.folder)
    put(exported.folder, lines[:1] + lines[2:])
    answer = verify(capsys, exported.folder)
    assert answer["findings"][0]["block"] == 1
    assert "receipt 3 follows receipt 1" in [one["message"] for one in answer["findings"]]


def test_the_last_receipt_is_missed_too(exported, capsys) -> None:
    put(exported.folder, lines_of(exported.folder)[:-1])
    answer = verify(capsys, exported.folder)
    assert answer["findings"][0] == {
        "block": 4, "receipt": None, "message": "0 of its 1 receipts are there",
    }  # fmt: skip


def test_two_receipts_in_another_order_are_found(exported, capsys) -> None:
    lines = lines_of(exported.folder)
    put(exported.folder, [lines[1], lines[0], *lines[2:]])
    answer = verify(capsys, exported.folder)
    assert answer["findings"][0]["block"] == 1
    assert not answer["sound"]


def test_a_line_that_is_there_twice_is_found(exported, capsys) -> None:
    lines = lines_of(exported.folder)
    put(exported.folder, [*lines, lines[-1]])
    assert not verify(capsys, exported.folder)["sound"]


@pytest.mark.parametrize("name", ["a missing end", "a missing middle", "another order", "an edit"])
def test_a_chain_that_was_tampered_with_names_its_first_bad_block(exported, capsys, name) -> None:
    path = exported.folder / "blocks.jsonl"
    blocks = path.read_text().splitlines(keepends=True)
    tampered = {
        "a missing end": blocks[:2],
        "a missing middle": [blocks[0], *blocks[2:]],
        "another order": [blocks[0], blocks[2], blocks[1], blocks[3]],
        "an edit": [blocks[0], blocks[1], blocks[2].replace("[3,1", "[3,2"), blocks[3]],
    }[name]
    assert tampered != blocks
    path.write_text("".join(tampered))
    answer = verify(capsys, exported.folder, "--heads", exported.kept)
    first = {"a missing end": 3, "a missing middle": 2, "another order": 2, "an edit": 3}[name]
    assert answer["findings"][0]["block"] == first


def test_a_whole_end_that_is_cut_off_is_found_by_the_heads_that_were_kept(
    shop, tmp_path, capsys
) -> None:
    """Everything agrees with everything but what was published."""
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(heads.as_document(heads.published(at=NOON + 2 * HOUR))))
    with broken_ledger(
        "DELETE FROM ledger_run WHERE block_number >= 3",
        "DELETE FROM ledger_block WHERE number >= 3",
        "DELETE FROM ledger_head WHERE number >= 3",
        "UPDATE ledger_standing SET runs_count = runs_count - 1 WHERE account_id ="
        " (SELECT id FROM ledger_account WHERE code = 'acme')",
    ):
        folder = export(shop, tmp_path / "cut")
    assert verify(capsys, folder)["sound"]
    answer = verify(capsys, folder, "--heads", kept)
    assert answer["findings"] == [
        {
            "block": 3,
            "receipt": None,
            "message": "the chain ends before it, yet block 3 was published:"
            " blocks are missing, or came after the export",
        }
    ]


@pytest.mark.parametrize("places", [-1, 1, 5])
def test_a_run_at_another_place_of_its_leaf_is_found_though_the_order_is_the_same(
    shop, tmp_path, capsys, places: int
) -> None:
    last = f"{A2} AND block_number = 1".replace("sequence = 2", "sequence = 3")
    with broken_ledger(f"UPDATE ledger_run SET block_position = block_position + {places} {last}"):
        assert violations()[LEAVES]
        assert not verify(capsys, export(shop, tmp_path / "acme"))["sound"]


# What a hand in the database could do to the run "a2", the second of the first block.
COLUMNS = {
    "run_key": "gen_random_uuid()",
    "part": "5, sequence = 0",
    "occurred_at": "occurred_at + interval '1 microsecond'",
    "sequence": "9",
    "microtokens": "3",
    "micros": "micros + 1",
    "lot_id": "lot_id + 256",
    "out_before_microtokens": "2",
    "attribution_key": "(SELECT key FROM ledger_attribution WHERE workflow <> 'review' LIMIT 1)",
    "block_number": "2",
    "block_position": "block_position + 1",
    "submission_position": "0",
    "slices_count": "2",
    "flags": "1",
    "engine_id": "0",
}
A2 = "WHERE sequence = 2 AND account_id = (SELECT id FROM ledger_account WHERE code = 'acme')"


def test_a_column_edited_in_the_database_is_found_there_and_in_what_is_exported(
    shop, tmp_path, capsys, subtests: pytest.Subtests
) -> None:
    for column, value in COLUMNS.items():
        edit = f"UPDATE ledger_run SET {column} = {value} {A2}"
        with subtests.test(column), broken_ledger(edit):
            [first, *_] = violations()[LEAVES]
            assert first[1] in (1, 2)
            answer = verify(capsys, export(shop, tmp_path / column))
            assert not answer["sound"]
            assert answer["findings"][0]["block"] == 1


def test_a_run_deleted_in_the_database_is_found_there_and_in_what_is_exported(
    shop, tmp_path, capsys
) -> None:
    with broken_ledger(f"DELETE FROM ledger_run {A2}"):
        [(_, number, message)] = violations()[LEAVES]
        assert (number, message) == (1, "1 runs are missing")
        answer = verify(capsys, export(shop, tmp_path / "acme"))
    assert answer["findings"][0]["block"] == 1
    assert "receipt 3 follows receipt 1" in [one["message"] for one in answer["findings"]]


def test_two_runs_swapped_in_the_database_are_found_there_and_in_what_is_exported(
    shop, tmp_path, capsys
) -> None:
    both = A2.replace("sequence = 2", "sequence IN (1, 2)")
    swap = f"UPDATE ledger_run SET block_position = 1 - block_position {both}"
    with broken_ledger(swap):
        assert [row[:3] for row in violations()[LEAVES]] == [
            (shard(shop, "acme"), 1, 0),
            (shard(shop, "acme"), 1, 1),
            (shard(shop, "acme"), 1, 2),  # sealed in the same leaf
        ]
        answer = verify(capsys, export(shop, tmp_path / "acme"))
    assert answer["findings"][0]["block"] == 1
    messages = [one["message"] for one in answer["findings"]]
    assert {"receipt 1 follows receipt 2", "its receipts do not lead to its root"} <= {*messages}


def test_receipts_of_a_time_are_exported_and_sound_by_themselves(shop, tmp_path, capsys) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT recorded_at FROM ledger_block WHERE number = 2")
        [recorded_at] = cursor.fetchone()
    account = accounts.find(book_id=shop.book_id, code="acme")
    debit(shop, [make_run(1)], at=recorded_at + HOUR)
    folder = tmp_path / "acme"
    exported = proofs.export(account=account, folder=folder, since=recorded_at + HOUR, at=NOON)
    assert exported.lines_count == 1
    answer = verify(capsys, folder)
    assert (answer["sound"], answer["receipts"], answer["blocks"]) == (True, 1, 5)
    until = proofs.export(account=account, folder=tmp_path / "u", until=recorded_at + HOUR, at=NOON)
    assert until.lines_count == 6
    assert verify(capsys, tmp_path / "u")["sound"]


def test_an_export_says_nothing_of_anybody_else(exported) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, code FROM ledger_account WHERE code <> 'acme'")
        [(other_id, _)] = cursor.fetchall()
        cursor.execute("SELECT run_key FROM ledger_run WHERE account_id = %s", [other_id])
        keys = [key.hex for (key,) in cursor.fetchall()]
    assert keys
    text = "".join(path.read_text("utf-8") for path in exported.folder.iterdir())
    assert str(other_id) not in text
    assert not [key for key in keys if key in text]


def test_it_stands_alone_as_a_script_and_several_processes_agree(exported) -> None:
    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-I", str(SCRIPT), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )

    sound = run(exported.folder, "--heads", exported.kept)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout == (
        "Sound: 6 receipts of acme, in a chain of 4 blocks; 2 published heads are among them.\n"
    )
    assert "examples:" in run("--help").stdout
    change(exported.folder / "receipts.jsonl", '["a2",', '["a9",')
    broken = run(exported.folder)
    assert broken.returncode == 1
    assert "block 1, receipt 2: run 'a9': its details are another run's" in broken.stdout
    together = "it, or one of the 3 that are sealed together, is not what was sealed"
    assert f"block 1, receipt 1: {together}" in broken.stdout
    assert run(exported.folder / "nowhere").returncode == 2


def test_lines_in_many_stretches_are_checked_by_several_processes(exported, monkeypatch) -> None:
    monkeypatch.setattr(verify_receipts, "_CHUNK_BYTES", 1)
    export_ = verify_receipts.of_folder(exported.folder)
    report = verify_receipts.verify(export_, [], 2, lambda done: None)
    assert (report.findings, report.receipts) == ([], 6)
