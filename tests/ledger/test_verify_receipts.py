"""The verifier finds what was changed in an export, and in the ledger before it was exported."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from ledger import accounts, heads, proofs
from ledger.invariants import violations
from ledger.verify_receipts import main
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
    from ledger.units import shard_of_code

    return shard_of_code(book_id=shop.book_id, code=code)


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
