"""Holds over HTTP: the whole way of a hold, its problems, and other vendors' keys."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client

from ledger import access, overdue
from ledger.catalog import NewRate
from ledger.models import Hold, Run
from tests.ledger.builders import make_account, make_lot, make_shop

NOW = datetime.now(UTC)


class Api:
    """A vendor's engineer with a key."""

    def __init__(self) -> None:
        self.shop = make_shop(
            [NewRate(meter="executions", microtokens=1_000_000)],
            effective_at=NOW - timedelta(days=3650),
        )
        self.account_id = make_account(self.shop)
        make_lot(self.account_id, 10_000_000, from_hours=-100_000)
        key = access.issue_api_key(book_id=self.shop.book_id, name="test", at=NOW)
        self.client = Client(headers={"authorization": f"Bearer {key.secret}"})

    def post(self, path, body=None, *, key=""):
        headers = {"idempotency-key": key} if key else {}
        text = body if isinstance(body, str) else json.dumps(body)
        return self.client.post(
            f"/api/v1/{path}", text, content_type="application/json", headers=headers
        )

    def get(self, path):
        return self.client.get(f"/api/v1/{path}")

    def hold(self, **changes):
        body = {"run": "run-1", "account": "acme", "workflow": "review", "microtokens": 4_000_000}
        return self.post("holds", {n: v for n, v in (body | changes).items() if v is not None})

    def capture(self, executions: int, run: str = "run-1"):
        return self.post(f"holds/acme/{run}/capture", a_run(executions, run))


def a_run(executions: int, run: str = "run-1"):
    return {
        "id": run,
        "account": "acme",
        "workflow": "review",
        "occurred_at": NOW.isoformat(),
        "inferences": [{"engine": "engine", "quantities": {"executions": executions}}],
    }


@pytest.fixture
def api(db):
    return Api()


def told(answer):
    return answer.status_code, answer.json()["code"]


def test_a_hold_is_captured_by_its_run_which_answers_with_the_receipt(api):
    held = api.hold()
    assert (held.status_code, held.json()["status"], held.json()["tokens"]) == (201, "held", "4")
    captured = api.capture(3)
    assert captured.status_code == 200
    assert captured.json()["receipt"]["tokens"] == "3"
    assert captured.json()["hold"]["status"] == "captured"
    assert (captured.json()["hold"]["late"], captured.json()["hold"]["after_release"]) == (
        False,
        False,
    )
    assert api.capture(3).json() == captured.json()
    assert api.get("holds/acme/run-1").json() == captured.json()["hold"]
    assert Run.objects.count() == 1


def test_another_run_under_a_captured_holds_id_is_a_conflict(api):
    api.hold()
    api.capture(3)
    assert told(api.capture(4)) == (409, "run_conflict")


def test_a_retried_request_gets_the_same_hold(api):
    first = api.hold()
    again = api.hold()
    assert (again.status_code, again.json()) == (200, first.json())
    assert told(api.hold(microtokens=5)) == (409, "hold_conflict")
    assert Hold.objects.count() == 1


def test_an_estimate_is_priced_as_the_run_will_be(api):
    inferences = [{"engine": "engine", "quantities": {"executions": 7}}]
    assert api.hold(microtokens=None, inferences=inferences).json()["tokens"] == "7"


def test_too_few_tokens_are_402_with_the_facts(api):
    api.hold(microtokens=9_000_000)
    refused = api.hold(run="run-2", microtokens=2_000_000)
    assert told(refused) == (402, "insufficient_tokens")
    problem = refused.json()
    assert problem["available_microtokens"] == 10_000_000
    assert (problem["held_microtokens"], problem["asked_microtokens"]) == (9_000_000, 2_000_000)
    assert told(api.capture(1, "run-2")) == (409, "nothing_held")
    assert told(api.get("holds/acme/run-2")) == (404, "unknown_hold")
    assert not Run.objects.exists()


def test_an_account_whose_payment_is_overdue_gets_402_until_it_is_paid(api):
    overdue.refuse_holds(account_id=api.account_id, at=NOW)
    assert told(api.hold()) == (402, "payment_overdue")
    assert api.post("runs?wait=1", {"runs": [a_run(3, "run-9")]}).status_code in (200, 202)
    overdue.allow_holds(account_id=api.account_id)
    assert api.hold().status_code == 201


def test_what_is_above_the_hold_is_debited_all_the_same(api):
    api.hold(microtokens=9_000_000)
    drawn = api.capture(12).json()["receipt"]["drawn"]
    assert [(one["kind"], one["microtokens"]) for one in drawn] == [
        ("prepaid", 10_000_000),
        ("debt", 2_000_000),
    ]


def test_a_released_hold_gives_back_and_cannot_be_captured(api):
    api.hold(microtokens=9_000_000)
    released = api.post("holds/acme/run-1/release")
    assert (released.status_code, released.json()["status"]) == (200, "released")
    assert api.post("holds/acme/run-1/release").json() == released.json()
    assert told(api.capture(1)) == (409, "hold_released")
    assert api.hold(run="run-2", microtokens=10_000_000).status_code == 201


def test_a_charge_wins_over_a_release(api):
    api.hold(microtokens=9_000_000)
    api.post("runs", a_run(8))
    assert api.post("holds/acme/run-1/release").json()["status"] == "capturing"
    assert told(api.hold(run="run-2", microtokens=2_000_000)) == (402, "insufficient_tokens")
    assert api.capture(8).json()["hold"]["status"] == "captured"
    assert Run.objects.count() == 1


def test_a_hold_whose_client_died_counts_for_nothing_after_its_life(api):
    """The sweeper is not running; a late capture is a normal debit, and says so."""
    api.hold(microtokens=9_000_000, life_seconds=900)
    age(api, timedelta(minutes=16))
    assert api.get("holds/acme/run-1").json()["status"] == "expired"
    assert api.hold(run="run-2", microtokens=10_000_000).status_code == 201
    captured = api.capture(2)
    assert captured.status_code == 200
    assert captured.json()["hold"]["late"] is True


def age(api, by: timedelta) -> None:
    """As if it had been asked for earlier: behind the back of what keeps facts as they are."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "UPDATE ledger_hold SET (asked_at, held_at, expires_at, due_at) ="
            " ROW(asked_at - by, held_at - by, expires_at - by, due_at - by)"
            " FROM CAST(%(by)s AS interval) AS by",
            {"by": str(by)},
        )
        cursor.execute("SET LOCAL session_replication_role = origin")


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"run": None}, "run", "required"),
        ({"run": ""}, "run", "length"),
        ({"microtokens": -1}, "microtokens", "range"),
        ({"microtokens": 1.5}, "microtokens", "type"),
        ({"microtokens": 10**15}, "microtokens", "range"),
        ({"microtokens": None}, "microtokens", "estimate"),
        ({"life_seconds": 86_401}, "life_seconds", "range"),
        ({"life_seconds": 0}, "life_seconds", "range"),
        ({"tokens": 4}, "tokens", "unknown_field"),
        ({"actor": "x" * 101}, "actor", "length"),
        (
            {
                "microtokens": None,
                "inferences": [{"engine": "e", "quantities": {"executions": 1}}],
            },
            "inferences[0].engine",
            "unknown_engine",
        ),
    ],
)
def test_a_body_that_breaks_a_rule_is_told_which(api, changes, field, rule):
    refused = api.hold(**changes)
    assert told(refused) == (422, "invalid_hold")
    assert [(one["field"], one["rule"]) for one in refused.json()["errors"]] == [(field, rule)]
    assert not Hold.objects.exists()


@pytest.mark.parametrize("quantity", [-1, -0.5])
def test_a_run_that_costs_less_than_nothing_is_refused(api, quantity):
    api.hold()
    body = a_run(1)
    body["inferences"][0]["quantities"]["executions"] = quantity
    assert told(api.post("holds/acme/run-1/capture", body)) == (422, "invalid_runs")
    assert api.get("holds/acme/run-1").json()["status"] == "held"


def test_what_is_captured_is_the_run_that_is_named(api):
    api.hold()
    refused = api.post("holds/acme/run-1/capture", a_run(1, "run-2"))
    assert told(refused) == (422, "invalid_hold")


@pytest.mark.parametrize("body", ["", "{", "[]", '"x"', "null"])
def test_what_is_no_object_is_refused(api, body):
    assert api.post("holds", body).status_code in (400, 422)


def test_an_account_that_is_not_there_is_unknown(api):
    assert told(api.hold(account="nobody")) == (404, "unknown_account")
    assert told(api.get("holds/nobody/run-1")) == (404, "unknown_account")


def test_another_vendors_key_sees_and_changes_nothing(api):
    api.hold()
    other = Api()
    assert other.hold().status_code == 201
    api.post("holds/acme/run-1/release")
    assert other.get("holds/acme/run-1").json()["status"] == "held"
    make_account(api.shop, "secret")
    assert told(other.hold(account="secret")) == (404, "unknown_account")
    for path in ("capture", "release"):
        answer = other.post(f"holds/secret/run-1/{path}", a_run(1) | {"account": "secret"})
        assert told(answer) == (404, "unknown_account")


def test_without_a_key_nothing_is_told(db):
    for path in ("holds", "holds/acme/run-1/capture", "holds/acme/run-1/release"):
        assert Client().post(f"/api/v1/{path}").status_code == 401
    assert Client().get("/api/v1/holds/acme/run-1").status_code == 401


@pytest.mark.parametrize("word", ["capture", "release"])
def test_a_runs_id_may_end_like_an_address(api, word):
    api.hold(run=f"run/{word}")
    assert api.get(f"holds/acme/run/{word}").json()["run"] == f"run/{word}"
    assert api.get(f"holds/acme/none/{word}").json()["code"] == "unknown_hold"
