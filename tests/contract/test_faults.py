"""Faults on demand, as the SDK meets them."""

from typing import Any

import pytest
import requests
import stripe

from billing.stripe.simulator import faults
from tests.contract.scenes import advance, customer, fault, logged, open_invoice
from tests.contract.stripe_client import client


def keyed(key: str) -> Any:
    return {"idempotency_key": key}


def count(api: stripe.StripeClient) -> int:
    return len(api.v1.customers.list().data)


def test_a_rate_limit_is_not_remembered(api: stripe.StripeClient, address: str) -> None:
    fault(address, kind="status", status=429, path="/v1/customers", times=2)
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError):
            api.v1.customers.create({}, keyed("k"))
    api.v1.customers.create({}, keyed("k"))
    assert count(api) == 1
    assert [entry["status"] for entry in logged(address)] == [429, 429, 200]


def test_a_server_error_is_remembered_under_its_key(api: stripe.StripeClient, address: str) -> None:
    fault(address, kind="status", status=500)
    with pytest.raises(stripe.APIError):
        api.v1.customers.create({}, keyed("k"))
    with pytest.raises(stripe.APIError) as refused:
        api.v1.customers.create({}, keyed("k"))
    assert refused.value.headers is not None
    assert refused.value.headers["Idempotent-Replayed"] == "true"
    assert count(api) == 0
    api.v1.customers.create({}, keyed("k:2"))


def test_an_error_after_the_work_leaves_the_work_done(
    api: stripe.StripeClient, address: str
) -> None:
    fault(address, kind="status", status=503, after_commit=True)
    for _ in range(2):
        with pytest.raises(stripe.APIError) as refused:
            api.v1.customers.create({}, keyed("k"))
        assert refused.value.http_status == 503
    assert count(api) == 1


def test_a_connection_broken_before_the_work_did_nothing(
    api: stripe.StripeClient, address: str
) -> None:
    fault(address, kind="reset_before")
    with pytest.raises(stripe.APIConnectionError):
        api.v1.customers.create({}, keyed("k"))
    assert count(api) == 0
    api.v1.customers.create({}, keyed("k"))
    assert count(api) == 1


def test_a_connection_broken_after_the_work_did_it_once(
    api: stripe.StripeClient, address: str
) -> None:
    fault(address, kind="reset_after_commit")
    with pytest.raises(stripe.APIConnectionError):
        api.v1.customers.create({"name": "A"}, keyed("k"))
    assert count(api) == 1
    again = api.v1.customers.create({"name": "A"}, keyed("k"))
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert count(api) == 1


def test_the_sdks_own_retries_are_safe(address: str) -> None:
    fault(address, kind="reset_after_commit")
    made = client(address, retries=2).v1.customers.create({"name": "A"})
    assert [one.id for one in client(address).v1.customers.list().data] == [made.id]


def test_a_payment_whose_answer_got_lost_is_made_once(
    api: stripe.StripeClient, address: str
) -> None:
    buyer = customer(api)
    invoice = open_invoice(api, buyer.id, 5000)
    fault(address, kind="reset_after_commit", path="/pay$")
    with pytest.raises(stripe.APIConnectionError):
        api.v1.invoices.pay(invoice.id, None, keyed("pay"))
    assert api.v1.invoices.pay(invoice.id, None, keyed("pay")).status == "paid"
    assert len(api.v1.charges.list().data) == 1


def test_a_fault_strikes_only_where_it_was_told_to(api: stripe.StripeClient, address: str) -> None:
    fault(address, kind="status", status=500, path="^/v1/products$", method="GET")
    api.v1.customers.create({})
    api.v1.products.create({"name": "P"})
    with pytest.raises(stripe.APIError):
        api.v1.products.list()
    assert len(api.v1.products.list().data) == 1


def test_faults_can_be_listed_and_removed(api: stripe.StripeClient, address: str) -> None:
    fault(address, kind="status", times=3)
    [listed] = requests.get(f"{address}/_sim/faults", timeout=10).json()["faults"]
    assert (listed["kind"], listed["left"]) == ("status", 3)
    requests.delete(f"{address}/_sim/faults", timeout=10)
    api.v1.customers.create({})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [],
        {"kind": "earthquake"},
        {"kind": "status", "status": 200},
        {"kind": "status", "status": "500"},
        {"kind": "status", "times": 0},
        {"kind": "status", "path": "["},
        {"kind": "status", "method": "PATCH"},
        {"kind": "status", "seconds": 1},
        {"kind": "delay", "seconds": -1},
        {"kind": "delay", "seconds": True},
        {"kind": "decline", "code": "because"},
        {"kind": "webhook_release", "order": "random"},
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_name(address: str, wrong: Any) -> None:
    answer = requests.post(f"{address}/_sim/faults", json=wrong, timeout=10)
    assert answer.status_code == 400
    named = next((name for name in list(wrong)[1:] if name in answer.json()["error"]), "kind")
    assert answer.json()["error"].startswith((named, "kind"))
    assert requests.get(f"{address}/_sim/faults", timeout=10).json() == {"faults": []}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/_sim/clock", {"advance": -5}, 400),
        ("/_sim/clock", {"now": 1}, 400),
        ("/_sim/clock", {"advance": "1"}, 400),
        ("/_sim/clock", {"advance": 1, "now": 2}, 400),
        ("/_sim/async", {"outcome": "maybe"}, 400),
        ("/_sim/async", {"outcome": "failed", "payment_intent": "pi_none"}, 400),
        ("/_sim/nothing", {}, 404),
    ],
)
def test_its_own_interface_refuses_what_it_cannot_do(
    address: str, path: str, body: Any, status: int
) -> None:
    answer = requests.post(address + path, json=body, timeout=10)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_broken_json_is_a_clear_error(address: str) -> None:
    answer = requests.post(f"{address}/_sim/faults", b"{", timeout=10)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"] or "Expecting" in answer.json()["error"]


def test_time_goes_forward_and_stays_where_it_was_put(
    api: stripe.StripeClient, address: str
) -> None:
    before = api.v1.customers.create({}).created
    advance(address, 1_000_000)
    assert api.v1.customers.create({}).created >= before + 1_000_000


def test_a_reset_forgets_everything(api: stripe.StripeClient, address: str) -> None:
    api.v1.customers.create({}, keyed("k"))
    fault(address, kind="status")
    requests.post(f"{address}/_sim/reset", timeout=10).raise_for_status()
    api.v1.customers.create({"name": "other"}, keyed("k"))
    assert count(api) == 1
    assert api.v1.events.list({"limit": 100}).data[-1].type == "customer.created"


def test_every_kind_of_fault_is_described() -> None:
    assert faults.__doc__ is not None
    for kind in faults.KINDS:
        assert f"    {kind} " in faults.__doc__
