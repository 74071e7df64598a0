"""POST /api/v1/runs and what can be read afterwards, over Django's test client."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from ledger import access, catalog, debiting, queries
from ledger.catalog import NewRate
from ledger.models import Batch, Intake, ParkedRun, Run, Submission
from tests.ledger.builders import make_account, make_lot, make_shop, publish_rates

Post = Callable[..., object]
NOW = datetime.now(UTC)


def run(**changes):
    body = {
        "id": "run-1",
        "account": "acme",
        "workflow": "review",
        "occurred_at": NOW.isoformat(),
        "inferences": [{"engine": "engine", "quantities": {"executions": 3}}],
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


class Api:
    """A vendor's engineer with a key."""

    def __init__(self) -> None:
        self.shop = make_shop(
            [NewRate(meter="executions", microtokens=1_000_000)],
            effective_at=NOW - timedelta(days=3650),
        )
        self.account_id = make_account(self.shop)
        self.key = access.issue_api_key(book_id=self.shop.book_id, name="test", at=NOW)
        self.client = Client(headers={"authorization": f"Bearer {self.key.secret}"})

    def post(self, body, *, wait=False, content_type="application/json"):
        return self.client.post(
            f"/api/v1/runs{'?wait' if wait else ''}",
            body if isinstance(body, str | bytes) else json.dumps(body),
            content_type=content_type,
        )

    def get(self, path):
        return self.client.get(f"/api/v1/{path}")


@pytest.fixture
def api(db):
    return Api()


def nothing_was_taken():
    tables = (Batch, Submission, Intake, ParkedRun, Run)
    return not any(table.objects.exists() for table in tables)


def test_accepted_runs_say_what_they_cost_and_are_debited_by_the_drain(api):
    answer = api.post({"runs": [run(), run(id="run-2")]})
    assert answer.status_code == 202
    assert [(one["status"], one["tokens"]) for one in answer.json()["runs"]] == [
        ("accepted", "3"),
        ("accepted", "3"),
    ]
    batch = api.get(f"batches/{answer.json()['batch']}")
    assert {one["status"] for one in batch.json()["runs"]} == {"waiting"}
    debiting.drain_all(at=NOW)
    batch = api.get(f"batches/{answer.json()['batch']}")
    assert [one["status"] for one in batch.json()["runs"]] == ["debited", "debited"]


def test_one_run_may_come_by_itself(api):
    answer = api.post(run())
    assert answer.status_code == 202
    assert [one["id"] for one in answer.json()["runs"]] == ["run-1"]


def test_with_wait_the_answer_is_the_receipt(api):
    make_lot(api.account_id, 2_000_000, price_micros=1_000_000, from_hours=-100_000)
    answer = api.post(run(project="merger", actor="bot-7"), wait=True)
    assert answer.status_code == 200
    [result] = answer.json()["runs"]
    receipt = result["receipt"]
    assert result["status"] == "debited"
    assert receipt["number"].startswith(f"RUN-{NOW:%Y-%m}-1-")
    assert (receipt["microtokens"], receipt["tokens"]) == (3_000_000, "3")
    assert (receipt["project"], receipt["actor"], receipt["cost_centre"]) == (
        "merger",
        "bot-7",
        "sales",
    )
    assert [(one["kind"], one["microtokens"], one["micros"]) for one in receipt["drawn"]] == [
        ("prepaid", 2_000_000, 1_000_000),
        ("debt", 1_000_000, 0),
    ]
    assert receipt["cost"] == [{"currency": "EUR", "micros": 1_000_000}]
    assert receipt["inferences"][0]["quantities"] == {"executions": 3}
    assert api.get("accounts/acme/runs/run-1").json() == receipt


def test_the_same_run_again_gives_the_same_receipt_and_costs_nothing_more(api):
    first = api.post(run(), wait=True).json()["runs"]
    assert api.post(run(), wait=True).json()["runs"] == first
    assert queries.runs_count(account_ids=[api.account_id]) == 1


def test_another_body_under_a_runs_id_is_a_conflict(api):
    api.post(run(), wait=True)
    other = run(inferences=[{"engine": "engine", "quantities": {"executions": 4}}])
    answer = api.post(other, wait=True)
    assert (answer.status_code, answer.json()["code"]) == (409, "run_conflict")
    later = api.post({"runs": [other, run(id="run-2")]}).json()
    debiting.drain_all(at=NOW)
    results = api.get(f"batches/{later['batch']}").json()["runs"]
    assert [one["status"] for one in results] == ["conflict", "debited"]
    assert queries.runs_count(account_ids=[api.account_id]) == 2


def test_one_batch_that_names_a_run_twice_is_told_about_both(api):
    other = run(inferences=[{"engine": "engine", "quantities": {"executions": 4}}])
    results = api.post({"runs": [run(), run(), other]}, wait=True).json()["runs"]
    assert [one["status"] for one in results] == ["debited", "debited", "conflict"]


def test_a_meter_without_a_rate_parks_the_run_until_there_is_one(api):
    catalog.create_meter(book_id=api.shop.book_id, code="pages", name="Pages")
    answer = api.post(run(inferences=[{"engine": "engine", "quantities": {"pages": 1}}]))
    assert answer.status_code == 202
    [result] = answer.json()["runs"]
    assert result["status"] == "unpriced"
    assert "'pages'" in result["reason"]
    assert api.get(f"batches/{answer.json()['batch']}").json()["runs"] == [result]
    publish_rates(
        api.shop,
        [NewRate(meter="pages", microtokens=5)],
        effective_at=NOW - timedelta(days=1),
    )
    from ledger import parking

    assert len(parking.price_parked(at=NOW)) == 1
    debiting.drain_all(at=NOW)
    [result] = api.get(f"batches/{answer.json()['batch']}").json()["runs"]
    assert (result["status"], result["receipt"]["microtokens"]) == ("debited", 5)


def of_inference(**changes):
    return [{"engine": "engine", "quantities": {"executions": 1}} | changes]


BAD_RUNS = [
    # what is wrong, the field that is named, the rule
    (run(id=None), "runs[0].id", "required"),
    (run(id=""), "runs[0].id", "length"),
    (run(id="x" * 201), "runs[0].id", "length"),
    (run(id=7), "runs[0].id", "type"),
    (run(id="a\x00b"), "runs[0]", "text"),
    (run(account=None), "runs[0].account", "required"),
    (run(account="nobody"), "runs[0].account", "unknown_account"),
    (run(workflow=None), "runs[0].workflow", "required"),
    (run(surprise=1), "runs[0].surprise", "unknown_field"),
    (run(occurred_at=None), "runs[0].occurred_at", "required"),
    (run(occurred_at="yesterday"), "runs[0].occurred_at", "datetime"),
    (run(occurred_at="2026-10-01T10:00:00"), "runs[0].occurred_at", "time_zone"),
    (run(occurred_at="2999-01-01T00:00:00Z"), "runs[0].occurred_at", "in_the_future"),
    (run(occurred_at="0001-01-01T00:00:00Z"), "runs[0].occurred_at", "too_old"),
    (run(occurred_at=1_700_000_000), "runs[0].occurred_at", "type"),
    (run(inferences=[]), "runs[0].inferences", "length"),
    (
        run(inferences=of_inference(engine="gpt-0")),
        "runs[0].inferences[0].engine",
        "unknown_engine",
    ),
    (
        run(inferences=of_inference(quantities={"smiles": 1})),
        "runs[0].inferences[0].quantities",
        "unknown_meter",
    ),
    (
        run(inferences=of_inference(quantities={"executions": -1})),
        "runs[0].inferences[0].quantities[...]",
        "range",
    ),
    (
        run(inferences=of_inference(quantities={"executions": 10**13})),
        "runs[0].inferences[0].quantities[...]",
        "range",
    ),
    (
        run(inferences=of_inference(quantities={"executions": 10**30})),
        "runs[0].inferences[0].quantities[...]",
        "range",
    ),
    (
        run(inferences=of_inference(quantities={"executions": 1.5})),
        "runs[0].inferences[0].quantities[...]",
        "type",
    ),
    (
        run(inferences=of_inference(quantities={"executions": "3"})),
        "runs[0].inferences[0].quantities[...]",
        "type",
    ),
    (run(inferences=of_inference(quantities={})), "runs[0].inferences[0].quantities", "length"),
    (run(inferences=of_inference(quantities={"executions": 10**12})), "runs[0]", "cost_too_large"),
    (
        run(inferences=of_inference(occurred_at="2999-01-01T00:00:00Z")),
        "runs[0].inferences[0].occurred_at",
        "in_the_future",
    ),
]


@pytest.mark.parametrize(("body", "field", "rule"), BAD_RUNS)
def test_a_run_that_breaks_a_rule_is_refused_with_its_field_and_rule_and_nothing_is_taken(
    api, body, field, rule
):
    for sent in (body, {"runs": [body]}, {"runs": [body, run(id="good")]}):
        answer = api.post(sent)
        assert answer.status_code == 422
        assert answer["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == "invalid_runs"
        first = problem["errors"][0]
        assert (first["field"], first["rule"]) == (field, rule)
        assert first["message"]
    assert nothing_was_taken()


def test_every_faulty_run_of_a_batch_is_named(api):
    sent = [run(), run(id="b", account="nobody"), run(id="c", workflow="w", account="no one")]
    problem = api.post({"runs": sent}).json()
    assert [fault["field"] for fault in problem["errors"]] == ["runs[1].account", "runs[2].account"]


def test_a_run_without_a_cost_centre_anywhere_is_refused(api):
    make_account(api.shop, "bare", default_cost_centre="")
    problem = api.post(run(account="bare")).json()
    [fault] = problem["errors"]
    assert (fault["field"], fault["rule"]) == ("runs[0].cost_centre", "cost_centre_missing")
    assert nothing_was_taken()


UNREADABLE = [
    (b"", 400, "malformed_json"),
    (b"{", 400, "malformed_json"),
    (b'{"runs": [', 400, "malformed_json"),
    (b"\xff\xfe{}", 400, "malformed_json"),
    (b'{"runs": [{"id": "\xff"}]}', 400, "malformed_json"),
    (b'{"runs": ' + b"[" * 100_000, 400, "malformed_json"),
    (b"[]", 422, "invalid_runs"),
    (b"3", 422, "invalid_runs"),
    (b"null", 422, "invalid_runs"),
    (b'{"runs": {}}', 422, "invalid_runs"),
    (b'{"runs": []}', 422, "invalid_runs"),
    (b'{"runs": [3]}', 422, "invalid_runs"),
    (b"{}", 422, "invalid_runs"),
]


@pytest.mark.parametrize(("body", "status", "code"), UNREADABLE)
def test_a_body_that_is_no_submission_is_refused_in_words(api, body, status, code):
    answer = api.post(body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["errors"][0]["field"]
    assert nothing_was_taken()


def test_ten_thousand_runs_are_taken_and_one_more_is_refused(api):
    runs = [run(id=f"run-{number}") for number in range(10_001)]
    problem = api.post({"runs": runs}).json()
    assert [(fault["field"], fault["rule"]) for fault in problem["errors"]] == [
        ("runs", "runs_count")
    ]
    assert nothing_was_taken()
    assert api.post({"runs": runs[:-1]}).status_code == 202
    assert debiting.drain_all(at=NOW) == 10_000


def test_a_body_of_a_hundred_megabytes_is_refused(api):
    answer = api.post(b" " * 100_000_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_body_that_is_not_json_by_its_type_is_refused(api):
    answer = api.post(json.dumps(run()), content_type="text/csv")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_methods_and_addresses_that_are_not_offered_are_problems_too(api):
    assert api.client.delete("/api/v1/runs").json()["code"] == "method_not_allowed"
    answer = api.get("nonsense")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_address")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer rl_wrong", "Basic abc", "rl_x"])
def test_without_a_valid_key_nothing_is_said_and_nothing_taken(api, authorization):
    client = Client(headers={"authorization": authorization} if authorization else {})
    answer = client.post("/api/v1/runs", json.dumps(run()), content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")
    assert answer["WWW-Authenticate"] == "Bearer"
    assert nothing_was_taken()


def test_a_revoked_key_opens_nothing_from_that_moment(api):
    assert api.post(run()).status_code == 202
    access.revoke_api_key(key_id=api.key.key_id, at=NOW)
    assert api.post(run(id="run-2")).status_code == 401
    assert Batch.objects.count() == 1


def test_another_vendors_account_run_and_batch_are_as_if_they_did_not_exist(api):
    theirs = Api()
    make_account(theirs.shop, "globex")
    sent = theirs.post(run(account="globex"), wait=True).json()
    mine = api.post(run(account="globex")).json()["errors"]
    nobody = api.post(run(account="nobody")).json()["errors"]
    assert mine == nobody
    for path, other in (
        (f"batches/{sent['batch']}", "batches/00000000-0000-4000-8000-000000000000"),
        ("accounts/globex/runs/run-1", "accounts/nobody/runs/run-1"),
    ):
        answer = api.get(path)
        assert answer.status_code == 404
        assert answer.json()["code"] == api.get(other).json()["code"]


def test_a_batch_of_another_kind_of_id_is_unknown(api):
    assert api.get("batches/17").json()["code"] == "unknown_batch"
    assert api.get("accounts/acme/runs/nothing").json()["code"] == "unknown_run"
