"""GET /api/v1/heads and GET /api/v1/accounts/A/runs/R/proof."""

import json

import pytest

from ledger import heads
from ledger.verify_receipts import main
from tests.api.test_runs import NOW, Api, run
from tests.ledger.builders import make_account


@pytest.fixture
def api(db: None) -> Api:
    api = Api()
    make_account(api.shop, "other")
    api.post({"runs": [run(), run(id="a/b"), run(account="other")]}, wait=True)
    heads.publish(at=NOW)
    return api


def test_heads_are_told_as_they_were_published_and_nothing_of_anyones(api) -> None:
    answer = api.get("heads")
    assert answer.status_code == 200
    assert answer.json() == heads.as_document(heads.published(at=NOW))
    assert len(answer.json()["heads"]) in (1, 2)
    for one in answer.json()["heads"]:
        assert set(one) == {"shard", "number", "hash", "published_at"}


@pytest.mark.parametrize("run_id", ["run-1", "a/b"])
def test_a_runs_proof_is_checked_with_the_heads_that_were_kept(
    api, tmp_path, capsys, run_id
) -> None:
    answer = api.get(f"accounts/acme/runs/{run_id}/proof")
    assert answer.status_code == 200
    (tmp_path / "proof.json").write_bytes(answer.content)
    (tmp_path / "kept.json").write_bytes(api.get("heads").content)
    code = main([str(tmp_path / "proof.json"), "--heads", str(tmp_path / "kept.json"), "--json"])
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sound"], told["receipts"], told["heads"]) == (True, 1, 1)


def test_the_receipt_itself_is_still_under_its_own_address(api) -> None:
    answer = api.get("accounts/acme/runs/a/b")
    assert answer.status_code == 200
    assert answer.json()["inferences"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("accounts/acme/runs/none/proof", "unknown_run"),
        ("accounts/none/runs/run-1/proof", "unknown_account"),
    ],
)
def test_what_is_not_there_has_no_proof(api, path, code) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_a_key_is_needed(api) -> None:
    del api.client.defaults["HTTP_AUTHORIZATION"]
    assert api.get("heads").status_code == 401
    assert api.get("accounts/acme/runs/run-1/proof").status_code == 401
