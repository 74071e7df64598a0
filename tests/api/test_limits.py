"""Limits and reviews over HTTP."""

import pytest

from tests.api.test_holds import Api, told


@pytest.fixture
def api(db):
    return Api()


def set_limit(api, *, key="k", **changes):
    body = {"scope": "actor", "value": "ada", "period": "day", "cap": 5_000_000, "hard": True}
    return api.post("accounts/acme/limits", body | changes, key=key)


def test_a_limit_is_set_once_listed_and_ended(api):
    set_ = set_limit(api)
    assert set_.status_code == 201
    assert set_limit(api).json() == set_.json()
    assert told(set_limit(api, cap=6)) == (409, "idempotency_key_reused")
    api.hold(actor="ada")
    [listed] = api.get("accounts/acme/limits").json()["limits"]
    [use] = listed["uses"]
    assert (use["scope_value"], use["used"], use["held"]) == ("ada", 0, 4_000_000)
    ended = api.post(f"accounts/acme/limits/{listed['id']}/end")
    assert ended.json()["ended_at"]
    assert api.get("accounts/acme/limits").json() == {"limits": []}


def test_a_hard_limit_is_403_with_the_facts(api):
    set_limit(api)
    api.hold(actor="ada")
    refused = api.hold(run="run-2", actor="ada")
    assert told(refused) == (403, "limit_reached")
    facts = {name: refused.json()[name] for name in ("scope", "scope_value", "cap", "used", "held")}
    assert facts == {
        "scope": "actor",
        "scope_value": "ada",
        "cap": 5_000_000,
        "used": 0,
        "held": 4_000_000,
    }
    assert refused.json()["asked"] == 4_000_000


def test_a_soft_limit_parks_the_hold_until_somebody_answers(api):
    set_limit(api, hard=False, value="")
    api.hold(actor="ada")
    parked = api.hold(run="run-2", actor="ada")
    assert (parked.status_code, parked.json()["status"]) == (202, "waiting")
    assert told(api.capture(1, "run-2")) == (409, "hold_waiting")
    [review] = api.get("accounts/acme/reviews").json()["reviews"]
    assert parked.json()["review"] == review["id"]
    address = f"accounts/acme/reviews/{review['id']}/answer"
    assert api.post(address, {"allow": True, "reason": "quarter end"}).status_code == 200
    assert api.get("holds/acme/run-2").json()["status"] == "held"
    assert told(api.post(address, {"allow": False, "reason": "no"})) == (409, "review_answered")
    assert api.get("accounts/acme/reviews").json() == {"reviews": []}


def test_a_review_tells_what_either_answer_would_do(api):
    set_limit(api, hard=False, value="")
    api.hold(actor="ada")
    api.hold(run="run-2", actor="ada")
    [listed] = api.get("accounts/acme/reviews").json()["reviews"]
    address = f"accounts/acme/reviews/{listed['id']}"
    told_of = api.get(address).json()
    projection = told_of.pop("projection")
    assert told_of == listed
    assert (listed["actor"], listed["run"], listed["cap"]) == ("ada", "run-2", 5_000_000)
    assert projection["if_allowed"]["held_count"] == 1
    assert projection["if_refused"]["refused_count"] == 1
    more, less = (projection[answer]["held"] for answer in ("if_allowed", "if_refused"))
    assert (more, less) == (8_000_000, 4_000_000)
    assert projection["period_ends_at"].endswith("Z")
    api.post(f"{address}/answer", {"allow": False, "reason": "enough"})
    assert api.get(address).json()["projection"] is None
    assert told(api.get("accounts/acme/reviews/7")) == (404, "unknown_review")
    assert told(Api().get(address)) == (404, "unknown_review")


def test_runs_beyond_a_limit_are_listed(api):
    set_limit(api, scope="account", value="", cap=1)
    api.hold(microtokens=0)
    api.capture(3)
    [excess] = api.get("accounts/acme/excesses").json()["excesses"]
    assert (excess["used_before"], excess["used_after"]) == (0, 3_000_000)


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"scope": "planet"}, "scope", "choice"),
        ({"cap": -1}, "cap", "range"),
        ({"period": "term"}, "until_at", "term_has_an_end"),
        ({"hard": None}, "hard", "type"),
        ({"until_at": "2026-01-01"}, "until_at", "datetime"),
    ],
)
def test_a_limit_that_breaks_a_rule_is_told_which(api, changes, field, rule):
    refused = set_limit(api, **changes)
    assert told(refused) == (422, "invalid_limit")
    assert [(one["field"], one["rule"]) for one in refused.json()["errors"]] == [(field, rule)]


def test_a_limit_needs_a_key_that_makes_it_happen_once(api):
    refused = set_limit(api, key="")
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"


def test_another_vendors_key_sees_and_changes_nothing(api):
    [limit] = [set_limit(api, hard=False).json()["id"]]
    api.hold(actor="ada", microtokens=6_000_000)
    [review] = api.get("accounts/acme/reviews").json()["reviews"]
    other = Api()
    for path in ("limits", "reviews", "excesses"):
        assert other.get(f"accounts/acme/{path}").json() == {path: []}
    assert told(other.post(f"accounts/acme/limits/{limit}/end")) == (404, "unknown_limit")
    answer = other.post(
        f"accounts/acme/reviews/{review['id']}/answer", {"allow": True, "reason": "mine"}
    )
    assert told(answer) == (404, "unknown_review")
