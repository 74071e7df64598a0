"""Leaves of runs: several of one account in each, and proofs for each of them."""

import json
import struct
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from ledger import accounts, leaves, merkle, proofs
from ledger.accounts import AccountFacts
from ledger.drawdown import Slice
from ledger.models import Block
from ledger.units import shard_of_code
from ledger.verify_receipts import main, of_folder, of_proof, verify
from tests.ledger.builders import NOON, accept, drain, make_account, make_lot, make_run, make_shop


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_a_leaf_has_runs_of_one_account_and_is_full_before_the_next(counts: list[int]) -> None:
    positions = leaves.positions(np.array(counts)).tolist()
    expected, leaf = [], 0
    for count in counts:
        for begin in range(0, count, 16):
            expected += [16 * leaf + place for place in range(min(16, count - begin))]
            leaf += 1
    assert positions == expected


@given(st.lists(st.integers(1, 16), min_size=1, max_size=20), st.data())
def test_a_leafs_hash_is_that_of_its_records_end_to_end(sizes: list[int], data) -> None:
    count = sum(sizes)
    records = np.frombuffer(np.random.default_rng(count).bytes(139 * count), leaves.RECORD)
    crossing = {
        row: [Slice(row, at, 5, 0) for at in range(data.draw(st.integers(2, 3)))]
        for row in data.draw(st.sets(st.integers(0, count - 1)))
    }
    begins = np.cumsum(sizes, dtype=np.int64) - np.array(sizes)
    texts = [
        record.tobytes() + b"".join(struct.pack(">qqq", *one[:3]) for one in crossing.get(row, []))
        for row, record in enumerate(records)
    ]
    expected = [
        merkle.leaf_hash(b"".join(texts[begin : begin + size]))
        for begin, size in zip(begins.tolist(), sizes, strict=True)
    ]
    assert leaves.hashes(records, begins, crossing) == expected


@given(st.lists(st.integers(0, 700), min_size=1, max_size=6).filter(any))
def test_a_tree_that_comes_in_pieces_has_the_root_of_the_whole(pieces: list[int]) -> None:
    tree = merkle.Tree()
    hashes = [merkle.leaf_hash(struct.pack(">i", number)) for number in range(sum(pieces))]
    taken = 0
    for count in pieces:
        tree.add(hashes[taken : taken + count])
        taken += count
    assert tree.leaves == hashes
    assert tree.root() == merkle.root(hashes)


RUN_IDS = [f"run {number}" for number in range(2_500)]


@pytest.fixture
def account(db: None) -> AccountFacts:
    """2,500 runs of five accounts of one shard in one block, every fifth of acme's."""
    shop = make_shop()
    first = make_account(shop)
    others = (code for code in map(str, range(10_000)) if shard(shop, code) == first & 255)
    codes = ["acme", *islice(others, 4)]
    for code in codes[1:]:
        make_account(shop, code)
    make_lot(first, 301, price_micros=10)
    for begin in range(0, 2_500, 500):
        runs = [
            make_run(2, run_id=RUN_IDS[place], account=codes[place % 5], workflow=f"w{place}")
            for place in range(begin, begin + 500)
        ]
        accept(shop, runs)
    assert drain(first) == 2_500
    return accounts.account(account_id=first)


def shard(shop, code: str) -> int:
    return shard_of_code(book_id=shop.book_id, code=code, shards=settings.SHARDS_IN_USE)


def test_a_large_block_of_several_accounts_is_proved_to_one_of_them(
    account: AccountFacts, tmp_path: Path, capsys
) -> None:
    [block] = Block.objects.all()
    assert (block.runs_count, len(block.leaves)) == (2_500, 32 * 5 * -(-500 // 16))
    proofs.export(account=account, folder=tmp_path / "acme", at=NOON)
    assert main([str(tmp_path / "acme")]) == 0
    assert capsys.readouterr().out.startswith("Sound: 500 receipts")


# The first of the block, one whose leaf's runs came with two submissions, one that crosses lots,
# one of the last leaf, which has but four.
@pytest.mark.parametrize(("place", "others_count"), [(0, 15), (100, 15), (150, 15), (499, 3)])
def test_the_proof_of_a_run_says_of_its_neighbours_what_they_cost_and_no_more(
    account: AccountFacts, tmp_path: Path, place: int, others_count: int
) -> None:
    run = RUN_IDS[5 * place]
    proof = proofs.of_run(account=account, run_id=run)
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    report = verify(of_proof(tmp_path / "proof.json"), [], 1, lambda done: None)
    assert (report.findings, report.receipts) == ([], 1)
    [own] = [line for line in proof["receipts"] if line.startswith('[["R",')]
    others = [line for line in proof["receipts"] if line != own]
    assert run in own
    assert len(others) == others_count
    assert all(line.startswith('[["S",1,') and line.endswith("],null]") for line in others)


def test_nothing_hides_among_what_is_sealed_with_a_run(
    account: AccountFacts, tmp_path: Path
) -> None:
    """Two records as one, one left out, and one of which an export says nothing else."""
    path = tmp_path / "proof.json"
    proof = proofs.of_run(account=account, run_id="run 0")
    own, first, second, *rest = proof["receipts"]
    records = [json.loads(line)[0][3] for line in (first, second)]
    joined = first.replace(records[0], "".join(records))
    for lines in ([own, joined, *rest], [own, second, *rest], [own, *rest, second, first]):
        receipts = {"receipts": lines, "account": proof["account"] | {"lines": len(lines)}}
        path.write_text(json.dumps(proof | receipts))
        assert main([str(path)]) == 1
    folder = tmp_path / "acme"
    proofs.export(account=account, folder=folder, at=NOON)
    lines = (folder / "receipts.jsonl").read_text().splitlines()
    (folder / "receipts.jsonl").write_text("\n".join([lines[0], first, *lines[2:], ""]))
    findings = verify(of_folder(folder), [], 1, lambda done: None).findings
    assert any("there is no kind 'S'" in one.message for one in findings)


def test_a_proof_is_of_one_run_and_shows_all_that_it_has_of_it(
    account: AccountFacts, tmp_path: Path
) -> None:
    """Nothing of the run itself is shown as a bare record, and something of it must be shown."""
    path = tmp_path / "proof.json"
    proof = proofs.of_run(account=account, run_id="run 0")
    own, *beside = proof["receipts"]
    # The record of "run 0", as the proof of its neighbour has it.
    bare = proofs.of_run(account=account, run_id="run 5")["receipts"][0]
    assert bare.startswith('[["S",1,0,')
    message = "it is not the proof of one run with all that is told of it"
    for lines in ([bare, *beside], [own, bare, *beside]):
        told = proof | {"receipts": lines}
        told["account"] = proof["account"] | {"lines": len(lines)}
        told["blocks"] = [[*proof["blocks"][0]]]
        told["blocks"][0][6:8] = len(lines), sum(len(line) + 1 for line in lines)
        path.write_text(json.dumps(told))
        findings = verify(of_proof(path), [], 1, lambda done: None).findings
        assert message in [one.message for one in findings]
    path.write_text(json.dumps(proof | {"account": proof["account"] | {"whole": True}}))
    findings = verify(of_proof(path), [], 1, lambda done: None).findings
    assert any("there is no kind 'S'" in one.message for one in findings)
