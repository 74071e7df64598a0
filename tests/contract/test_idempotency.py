"""Idempotency keys: what is repeated, what is refused, and what is never remembered."""

import threading
from typing import Any

import pytest
import requests
import stripe

from tests.contract.scenes import (
    advance,
    customer,
    draft,
    fault,
    logged,
    open_invoice,
)
from tests.contract.stripe_client import client

DAY = 86_400


def keyed(key: str) -> Any:
    return {"idempotency_key": key}


def names(api: stripe.StripeClient) -> list[str | None]:
    return [one.name for one in api.v1.customers.list().data]


def test_a_key_makes_a_thing_once_and_says_so(api: stripe.StripeClient) -> None:
    first = api.v1.customers.create({"name": "A"}, keyed("k"))
    again = api.v1.customers.create({"name": "A"}, keyed("k"))
    assert first.id == again.id
    assert names(api) == ["A"]
    assert first.last_response is not None
    assert again.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert again.last_response.headers["Request-Id"] != first.last_response.headers["Request-Id"]


def test_a_key_with_other_parameters_or_another_address_is_an_error(
    api: stripe.StripeClient,
) -> None:
    api.v1.customers.create({"name": "A"}, keyed("k"))
    for other in (
        lambda: api.v1.customers.create({"name": "B"}, keyed("k")),
        lambda: api.v1.products.create({"name": "A"}, keyed("k")),
    ):
        with pytest.raises(stripe.IdempotencyError) as refused:
            other()
        assert refused.value.http_status == 400
    assert names(api) == ["A"]


def test_parameters_that_fail_validation_do_not_use_the_key_up(
    api: stripe.StripeClient,
) -> None:
    wrong: Any = {"nmae": "A"}
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.customers.create(wrong, keyed("k"))
    assert api.v1.customers.create({"name": "A"}, keyed("k")).name == "A"


def test_a_refusal_of_the_work_itself_is_repeated(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    empty = draft(api, buyer.id)
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.invoices.finalize_invoice(empty.id, None, keyed("k"))
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.invoices.finalize_invoice(empty.id, None, keyed("k"))
    assert refused.value.headers is not None
    assert refused.value.headers["Idempotent-Replayed"] == "true"


def test_a_declined_payment_is_repeated_not_tried_again(api: stripe.StripeClient) -> None:
    buyer = customer(api, card="pm_card_chargeCustomerFail")
    invoice = open_invoice(api, buyer.id, 5000)
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            api.v1.invoices.pay(invoice.id, None, keyed("pay:1"))
    assert api.v1.invoices.retrieve(invoice.id).attempt_count == 1
    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(invoice.id, None, keyed("pay:2"))
    assert api.v1.invoices.retrieve(invoice.id).attempt_count == 2


def test_a_key_is_forgotten_after_a_day(api: stripe.StripeClient, address: str) -> None:
    first = api.v1.customers.create({"name": "A"}, keyed("k"))
    advance(address, DAY - 60)
    assert api.v1.customers.create({"name": "A"}, keyed("k")).id == first.id
    advance(address, 120)
    assert api.v1.customers.create({"name": "A"}, keyed("k")).id != first.id


def test_a_key_in_use_is_a_conflict_and_makes_nothing(
    api: stripe.StripeClient, address: str
) -> None:
    fault(address, kind="delay", seconds=1, path="/v1/customers")
    made: list[str] = []
    first = threading.Thread(
        target=lambda: made.append(
            client(address).v1.customers.create({"name": "A"}, keyed("k")).id
        )
    )
    first.start()
    waited = threading.Event()
    for _ in range(100):
        if not requests.get(f"{address}/_sim/faults", timeout=5).json()["faults"]:
            break
        waited.wait(0.01)
    with pytest.raises(stripe.APIError) as refused:
        api.v1.customers.create({"name": "A"}, keyed("k"))
    first.join()
    assert refused.value.http_status == 409
    assert refused.value.error is not None
    assert refused.value.error.code == "idempotency_key_in_use"
    assert api.v1.customers.create({"name": "A"}, keyed("k")).id == made[0]
    assert names(api) == ["A"]


def test_many_at_once_with_one_key_make_one_thing(address: str) -> None:
    ids: list[str] = []

    def create() -> None:
        made = client(address, retries=5).v1.customers.create({"name": "A"}, keyed("k"))
        ids.append(made.id)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1


def test_a_key_too_long_is_refused(api: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.customers.create({}, keyed("k" * 256))


def test_the_log_tells_who_asked_what(api: stripe.StripeClient, address: str) -> None:
    api.v1.customers.create({"name": "A", "metadata": {"org_id": "7"}}, keyed("env:customer:7"))
    [entry] = logged(address, "^/v1/customers$")
    assert entry["params"] == {"name": "A", "metadata[org_id]": "7"}
    assert entry["idempotency_key"] == "env:customer:7"
    assert (entry["status"], entry["replayed"]) == (200, False)
    assert entry["answer"]["name"] == "A"
