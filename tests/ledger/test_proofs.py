"""An account's receipts are exported whole, and each run proves that it stands where it stood."""

import doctest
import json
import random
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from ledger import accounts, corrections, heads, merkle, proofs
from ledger.errors import UnknownRun
from ledger.intake import NewInference, NewPart, NewRun
from ledger.verify_receipts import main, of_folder, of_proof, root_from_proof, verify
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run, make_shop

LATER = NOON + 600 * HOUR


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_any_leaves_of_any_tree_lead_to_its_root_together(count: int, seed: int) -> None:
    leaves = [merkle.leaf_hash(bytes([position])) for position in range(count)]
    random_ = random.Random(seed)
    positions = sorted(random_.sample(range(count), random_.randint(1, count)))
    proof = merkle.inclusion_proof_of_all(leaves, positions)
    if len(positions) == 1:
        assert proof == merkle.inclusion_proof(leaves, positions[0])
    chosen = [(position, leaves[position]) for position in positions]
    assert root_from_proof(chosen, count, b"".join(proof)) == merkle.root(leaves)
    wrong = [(chosen[0][0], bytes(32)), *chosen[1:]]
    assert root_from_proof(wrong, count, b"".join(proof)) != merkle.root(leaves)
    with pytest.raises(ValueError, match="too long or too short"):
        root_from_proof(chosen, count, b"".join(proof) + bytes(32))


@pytest.fixture
def shop(db: None):
    """Runs of every kind: crossing lots, free, failed, retaken, in parts, corrected twice."""
    shop = make_shop()
    account_id = make_account(shop)
    make_lot(account_id, 9, price_micros=10)
    debit(shop, [make_run(7, run_id="a"), make_run(7, run_id="crossing"), make_run(0, run_id="0")])
    debit(shop, [unusual("failed", outcome="failed", fault="vendor")])
    debit(shop, [unusual("again", retake_of="a")])
    debit(shop, [unusual("parted", part=NewPart(id="one"))])
    debit(shop, [unusual("parted", part=NewPart(id="two", last=True))])
    for microtokens in (3, 4):
        corrections.void(
            account=accounts.account(account_id=account_id),
            run_id="crossing",
            microtokens=microtokens,
            reason="we were wrong: «ü\u2028»",
            idempotency_key=f"void-{microtokens}",
            at=LATER,
        )
    heads.publish(at=LATER)
    debit(shop, [make_run(1, run_id="after")])
    return shop


def unusual(run_id: str, **said) -> NewRun:
    return NewRun(
        id=run_id,
        account="acme",
        workflow="review",
        occurred_at=NOON,
        inferences=[NewInference(engine="engine", quantities={"executions": 2})],
        **said,
    )


def acme(shop):
    return accounts.find(book_id=shop.book_id, code="acme")


def test_runs_of_every_kind_are_exported_and_sound(shop, tmp_path: Path) -> None:
    exported = proofs.export(account=acme(shop), folder=tmp_path / "acme", at=LATER)
    report = verify(of_folder(tmp_path / "acme"), [], 1, lambda done: None)
    assert report.findings == []
    assert report.receipts == acme_runs(shop) == 7
    # A part is a line too, and so is a correction: two of ours, one of the run that was retaken.
    assert exported.lines_count >= 7 + 2 + 2
    assert report.heads == exported.heads_count == 1
    assert report.blocks == exported.blocks_count


def acme_runs(shop) -> int:
    return proofs.receipts_count(account=acme(shop))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('["C",', '["D",'),
        (",2,1783", ",3,1783"),
        ('"reason":"we', '"reason":"We'),
        ("[0,-3,", "[0,-2,"),
    ],
)
def test_an_edited_correction_is_found(shop, tmp_path: Path, before, after) -> None:
    folder = tmp_path / "acme"
    proofs.export(account=acme(shop), folder=folder, at=LATER)
    path = folder / "receipts.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    lines = (folder / "receipts.jsonl").read_text("utf-8").split("\n")
    [at] = [place for place, line in enumerate(lines) if '"void"' in line and "[0,-3," in line]
    assert before in lines[at], lines[at]
    block = json.loads(lines[at])[0][1]
    lines[at] = lines[at].replace(before, after, 1)
    path.write_text("\n".join(lines), "utf-8")
    findings = verify(of_folder(folder), [], 1, lambda done: None).findings
    assert findings[0].block == block


def test_one_runs_proof_is_checked_by_itself(
    shop, tmp_path: Path, capsys, subtests: pytest.Subtests
) -> None:
    path = tmp_path / "proof.json"
    for run_id in ("a", "crossing", "0", "failed", "again", "parted", "after"):
        with subtests.test(run_id):
            proof = proofs.of_run(account=acme(shop), run_id=run_id)
            path.write_text(json.dumps(proof))
            report = verify(of_proof(path), [], 1, lambda done: None)
            assert (report.findings, report.receipts) == ([], 1)
            # What is not published yet reaches to the last block, and nothing vouches for that.
            assert report.heads == (0 if run_id == "after" else 1)
            told = [line for line in proof["receipts"] if not line.startswith('[["S",')]
            assert len(told) == {"crossing": 3, "parted": 3, "a": 2}.get(run_id, 1)
            assert main([str(path)]) == 0
            assert capsys.readouterr().out.startswith("Sound: 1 receipts of acme")


def test_a_proof_of_another_receipt_is_none(shop, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    proof = proofs.of_run(account=acme(shop), run_id="a")
    proof["receipts"] = [line.replace('["a",', '["b",') for line in proof["receipts"]]
    path.write_text(json.dumps(proof))
    assert main([str(path)]) == 1


def test_a_run_that_is_not_there_has_no_proof(shop) -> None:
    with pytest.raises(UnknownRun):
        proofs.of_run(account=acme(shop), run_id="nobody's")


def test_an_account_without_receipts_is_exported(shop, tmp_path: Path) -> None:
    make_account(shop, "new")
    account = accounts.find(book_id=shop.book_id, code="new")
    assert proofs.export(account=account, folder=tmp_path / "new", at=LATER).lines_count == 0
    assert main([str(tmp_path / "new")]) == 0


def test_the_command_writes_a_folder_and_never_over_one(shop, tmp_path: Path) -> None:
    out, folder = StringIO(), tmp_path / "here" / "acme"
    call_command("export_receipts", "acme", "-o", folder, stdout=out)
    assert out.getvalue().startswith("1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.txt", "account.json", "blocks.jsonl", "heads.json", "receipts.jsonl",
    ]  # fmt: skip
    assert [path.name for path in folder.parent.iterdir()] == ["acme"]
    with pytest.raises(CommandError, match="there already"):
        call_command("export_receipts", "acme", "-o", folder)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "no account 'nobody'"),
        (["acme", "--book", "none"], "no book 'none'"),
        (["acme", "--since", "yesterday"], "--since yesterday: not a time"),
        (["acme", "--since", "2026-07-01", "--until", "2026-06-01"], "--since must be before"),
        (["acme", "-o", "/proc/none/acme"], "can't write"),
    ],
)
def test_the_command_says_what_it_does_not_understand(shop, tmp_path, arguments, told) -> None:
    given = arguments if "-o" in arguments else [*arguments, "-o", tmp_path / "x"]
    with pytest.raises(CommandError, match=told):
        call_command("export_receipts", *given)
    assert not (tmp_path / "x").exists()


def test_the_command_tells_as_json(shop, tmp_path: Path) -> None:
    out = StringIO()
    options = ["--since", "2026-01-01", "--until", "2027-01-01T00:00Z", "--json"]
    call_command("export_receipts", "acme", "-o", tmp_path / "acme", *options, stdout=out)
    answer = json.loads(out.getvalue())
    assert answer["heads"] == 1
    assert answer["receipts"] >= 11


def test_the_worked_example_of_the_docs_is_true(db: None) -> None:
    page = Path(__file__).parents[2] / "docs/ledger/receipts.md"
    example = doctest.DocTestParser().get_doctest(page.read_text("utf-8"), {}, page.name, None, 0)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert not told, "".join(told)
    assert len(example.examples) > 10
