"""Voids and outcomes over HTTP: the receipt, the problems, and nobody else's runs."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from django.test import Client

from ledger import access, queries
from ledger.models import Correction
from tests.ledger.builders import NOON, debit, make_account, make_lot, make_run, make_shop

NOW = datetime.now(UTC)


class Vendor:
    """A vendor's engineer with a key, one account and a run of 7 microtokens."""

    def __init__(self) -> None:
        self.shop = make_shop()
        self.account_id = make_account(self.shop)
        make_lot(self.account_id, 100, price_micros=1_000)
        debit(self.shop, [make_run(7, run_id="r")])
        key = access.issue_api_key(book_id=self.shop.book_id, name="test", at=NOW)
        self.client = Client(headers={"authorization": f"Bearer {key.secret}"})

    def post(
        self, path, body, *, key="k", run="r", account="acme", content_type="application/json"
    ):
        return self.client.post(
            f"/api/v1/accounts/{account}/runs/{run}/{path}",
            body if isinstance(body, str) else json.dumps(body),
            content_type="application/json",
            headers={} if key is None else {"Idempotency-Key": key},
        )

    def receipt(self, run="r"):
        return self.client.get(f"/api/v1/accounts/acme/runs/{run}")

    def out(self) -> int:
        return sum(lot.out_microtokens for lot in queries.lots(account_ids=[self.account_id]))


@pytest.fixture
def vendor(db) -> Vendor:
    return Vendor()


def test_a_receipt_has_a_version_an_outcome_and_no_corrections(vendor) -> None:
    receipt = vendor.receipt().json()
    assert (receipt["version"], receipt["outcome"], receipt["fault"]) == (1, "accepted", "")
    assert (receipt["retake_of"], receipt["retaken_by"], receipt["corrections"]) == ("", "", [])
    assert receipt["issued_at"] == receipt["recorded_at"]


def test_a_void_answers_with_the_receipts_new_version(vendor) -> None:
    answer = vendor.post("void", {"microtokens": 3, "reason": "a page was blank"})
    assert answer.status_code == 200
    receipt = answer.json()
    assert (receipt["version"], receipt["microtokens"]) == (2, 4)
    assert receipt["cost"] == [{"currency": "EUR", "micros": 40}]
    [correction] = receipt["corrections"]
    assert {name: correction[name] for name in correction if name != "recorded_at"} == {
        "version": 2,
        "kind": "void",
        "reason": "a page was blank",
        "microtokens": -3,
        "tokens": "-0.000003",
        "micros": -30,
    }
    assert vendor.receipt().json() == receipt


def test_a_void_without_an_amount_gives_everything_back_once(vendor) -> None:
    first = vendor.post("void", {})
    assert (first.json()["microtokens"], first.json()["drawn"]) == (0, [])
    assert vendor.post("void", {}).json() == first.json()
    assert (vendor.out(), Correction.objects.count()) == (0, 1)


def test_a_failure_by_the_vendors_fault_is_told_and_given_back(vendor) -> None:
    receipt = vendor.post("outcome", {"outcome": "failed", "fault": "vendor"}).json()
    assert (receipt["outcome"], receipt["fault"], receipt["microtokens"]) == ("failed", "vendor", 0)
    assert len(receipt["inferences"]) == 1
    assert vendor.out() == 0


def test_a_failure_by_the_customers_fault_leaves_what_was_used(vendor) -> None:
    body = {"outcome": "failed", "fault": "customer", "used_microtokens": 2}
    assert vendor.post("outcome", body).json()["microtokens"] == 2


@pytest.mark.parametrize(
    ("path", "body", "field", "rule"),
    [
        ("void", {"microtokens": 0}, "microtokens", "range"),
        ("void", {"microtokens": -1}, "microtokens", "range"),
        ("void", {"microtokens": 1.5}, "microtokens", "type"),
        ("void", {"microtokens": "1"}, "microtokens", "type"),
        ("void", {"tokens": 1}, "tokens", "unknown_field"),
        ("void", {"reason": "x" * 301}, "reason", "length"),
        ("void", [], "body", "type"),
        ("outcome", {"fault": "vendor"}, "outcome", "required"),
        ("outcome", {"outcome": "failed"}, "fault", "required"),
        ("outcome", {"outcome": "accepted", "fault": "vendor"}, "outcome", "choice"),
        (
            "outcome",
            {"outcome": "failed", "fault": "vendor", "used_microtokens": 1},
            "used_microtokens",
            "fault_of_customer",
        ),
        (
            "outcome",
            {
                "outcome": "failed",
                "fault": "customer",
                "used_microtokens": 1,
                "used_inferences": [0],
            },
            "used_inferences",
            "one_of",
        ),
        (
            "outcome",
            {"outcome": "failed", "fault": "customer", "used_inferences": [-1]},
            "used_inferences[0]",
            "range",
        ),
    ],
)
def test_a_body_that_breaks_a_rule_names_it_and_changes_nothing(
    vendor, path, body, field, rule
) -> None:
    answer = vendor.post(path, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_correction")
    [fault] = answer.json()["errors"]
    assert (fault["field"], fault["rule"]) == (field, rule)
    assert (vendor.out(), Correction.objects.count()) == (7, 0)


@pytest.mark.parametrize("path", ["void", "outcome"])
@pytest.mark.parametrize("key", [None, "", "k" * 201])
def test_a_request_without_a_key_that_can_be_used_is_refused(vendor, path, key) -> None:
    body = {"outcome": "failed", "fault": "vendor"} if path == "outcome" else {}
    answer = vendor.post(path, body, key=key)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize(("body", "code"), [("{", "malformed_json"), ("", "malformed_json")])
def test_what_is_not_json_is_told(vendor, body, code) -> None:
    answer = vendor.post("void", body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_refusals_are_problems_with_their_own_status(vendor) -> None:
    vendor.post("void", {"microtokens": 1}, key="one")
    refused = [
        (vendor.post("void", {"microtokens": 7}, key="two"), 409, "more_than_is_left"),
        (vendor.post("void", {"microtokens": 2}, key="one"), 409, "idempotency_key_reused"),
        (vendor.post("void", {}, run="nothing"), 404, "unknown_run"),
        (vendor.post("void", {}, account="nobody"), 404, "unknown_account"),
        (
            vendor.post(
                "outcome", {"outcome": "failed", "fault": "customer", "used_inferences": [1]}
            ),
            422,
            "unknown_inference",
        ),
    ]
    for answer, status, code in refused:
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["Content-Type"] == "application/problem+json"
    vendor.post("outcome", {"outcome": "failed", "fault": "vendor"}, key="f")
    again = vendor.post("outcome", {"outcome": "failed", "fault": "vendor"}, key="g")
    assert (again.status_code, again.json()["code"]) == (409, "outcome_known")


@pytest.mark.parametrize("path", ["void", "outcome"])
def test_another_vendors_runs_are_as_if_they_did_not_exist(vendor, path) -> None:
    other = Vendor()
    debit(other.shop, [make_run(3, run_id="theirs")])
    body = {"outcome": "failed", "fault": "vendor"} if path == "outcome" else {}
    assert vendor.post(path, body, run="theirs").json()["code"] == "unknown_run"
    assert other.out() == 10
    assert Client().post("/api/v1/accounts/acme/runs/r/void").status_code == 401


@pytest.mark.parametrize("ending", ["void", "outcome"])
def test_a_runs_id_may_end_like_these_addresses(vendor, ending) -> None:
    debit(vendor.shop, [make_run(3, run_id=f"a/{ending}")])
    assert vendor.receipt(f"a/{ending}").json()["microtokens"] == 3
    assert vendor.post("void", {}, run=f"a/{ending}").json()["microtokens"] == 0


def test_a_run_in_parts_is_sent_part_by_part(vendor) -> None:
    run = {
        "id": "parted",
        "account": "acme",
        "workflow": "review",
        "occurred_at": NOON.isoformat(),
        "inferences": [{"engine": "engine", "quantities": {"executions": 2}}],
    }
    for number, last in ((1, False), (2, True)):
        body = run | {"part": {"id": f"span {number}", "last": last}}
        answer = vendor.client.post(
            "/api/v1/runs?wait", json.dumps(body), content_type="application/json"
        )
        receipt = answer.json()["runs"][0]["receipt"]
        assert receipt["microtokens"] == 2 * number
        assert (receipt["issued_at"] is not None) == last
    assert len(vendor.receipt("parted").json()["inferences"]) == 2


def test_a_retake_shows_on_both_receipts(vendor) -> None:
    debit(vendor.shop, [msgspec.structs.replace(make_run(5, run_id="again"), retake_of="r")])
    assert vendor.receipt().json()["outcome"] == "retaken"
    assert vendor.receipt().json()["retaken_by"] == "again"
    assert vendor.receipt("again").json()["retake_of"] == "r"
