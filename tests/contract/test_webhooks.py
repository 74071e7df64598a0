"""Webhooks: signed, delivered until accepted, and whatever else networks do to them."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import stripe

from billing.stripe import simulator
from tests.contract.receiver import SECRET, Receiver
from tests.contract.scenes import fault, session, submit
from tests.contract.stripe_client import check_object, client


@pytest.fixture
def address(home: Path, receiver: Receiver) -> Iterator[str]:
    """A simulator that tells the receiver of everything, from its start."""
    with simulator.running(home=home, webhook_url=receiver.url, webhook_secret=SECRET) as address:
        yield address


def waiting(address: str) -> int:
    return int(requests.get(f"{address}/_sim/deliveries", timeout=10).json()["waiting"])


def test_every_event_comes_signed_and_is_valid(
    api: stripe.StripeClient, receiver: Receiver
) -> None:
    made = session(api)
    submit(made.url)
    [completed] = receiver.wait_for("checkout.session.completed")
    assert completed.event.data.object["id"] == made.id
    assert completed.event.api_version == stripe.api_version
    received = receiver.wait(lambda all_of_it: len(all_of_it) == 5)
    for delivery in received:
        body = json.loads(delivery.body)
        check_object(body)
        check_object(body["data"]["object"])
    kept = {event.id for event in api.v1.events.list({"limit": 100}).data}
    assert {delivery.event.id for delivery in received} == kept


def test_an_event_tells_which_request_caused_it(
    api: stripe.StripeClient, receiver: Receiver
) -> None:
    made = api.v1.customers.create({}, {"idempotency_key": "env:customer:7"})
    [created] = receiver.wait_for("customer.created")
    assert created.event.request is not None
    assert created.event.request.idempotency_key == "env:customer:7"
    assert made.last_response is not None
    assert created.event.request.id == made.last_response.headers["Request-Id"]


def test_what_is_not_accepted_comes_again_with_a_fresh_signature(
    api: stripe.StripeClient, receiver: Receiver
) -> None:
    receiver.answers.extend([500, 302, 404])
    api.v1.customers.create({})
    attempts = receiver.wait_for("customer.created", count=4)
    assert len({attempt.event.id for attempt in attempts}) == 1
    pauses = [later.at - earlier.at for earlier, later in itertools.pairwise(attempts)]
    assert pauses[0] >= 0.5
    assert pauses[1] >= 1
    assert pauses[2] >= 2
    assert attempts[0].signature != attempts[-1].signature


def test_events_not_yet_delivered_can_be_listed(
    api: stripe.StripeClient, address: str, receiver: Receiver
) -> None:
    fault(address, kind="webhook_hold")
    api.v1.customers.create({})
    [missing] = api.v1.events.list({"delivery_success": False}).data
    assert (missing.type, missing.pending_webhooks) == ("customer.created", 1)
    assert api.v1.events.list({"delivery_success": True}).data == []
    fault(address, kind="webhook_release")
    receiver.wait_for("customer.created")
    for _ in range(50):
        if not waiting(address):
            break
    assert [one.id for one in api.v1.events.list({"delivery_success": True}).data] == [missing.id]
    assert api.v1.events.list({"types": ["customer.deleted"]}).data == []


def test_a_duplicate_is_the_same_event_twice(
    api: stripe.StripeClient, address: str, receiver: Receiver
) -> None:
    fault(address, kind="webhook_duplicate", type="^customer[.]created$")
    api.v1.products.create({"name": "P"})
    api.v1.customers.create({})
    api.v1.customers.create({})
    created = receiver.wait_for("customer.created", count=3)
    assert len({delivery.event.id for delivery in created}) == 2
    assert receiver.types().count("product.created") == 1


def test_a_shuffle_gathers_and_reverses(
    api: stripe.StripeClient, address: str, receiver: Receiver
) -> None:
    fault(address, kind="webhook_shuffle", times=3)
    made = [api.v1.customers.create({"name": name}).id for name in "abc"]
    received = receiver.wait_for("customer.created", count=3)
    assert [delivery.event.data.object["id"] for delivery in received] == made[::-1]


def test_held_events_are_released_in_the_order_asked_for(
    api: stripe.StripeClient, address: str, receiver: Receiver
) -> None:
    fault(address, kind="webhook_hold")
    made = [api.v1.customers.create({}).id for _ in range(3)]
    assert waiting(address) == 3
    assert receiver.received == []
    fault(address, kind="webhook_release", order="reversed")
    received = receiver.wait_for("customer.created", count=3)
    assert [delivery.event.data.object["id"] for delivery in received] == made[::-1]


def test_an_endpoint_hears_only_what_it_asked_for(
    api: stripe.StripeClient, receiver: Receiver
) -> None:
    for endpoint in api.v1.webhook_endpoints.list().data:
        api.v1.webhook_endpoints.delete(endpoint.id)
    endpoint = api.v1.webhook_endpoints.create(
        {
            "url": receiver.url,
            "enabled_events": ["product.created"],
            "api_version": "2026-10-28.endive",
        }
    )
    assert endpoint.secret
    assert "secret" not in api.v1.webhook_endpoints.retrieve(endpoint.id)
    api.v1.customers.create({})
    [missed] = api.v1.events.list({"type": "customer.created"}).data
    assert missed.pending_webhooks == 0
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.v1.webhook_endpoints.create(
            {"url": receiver.url, "enabled_events": ["*"], "api_version": "2020-08-27"}
        )
    assert refused.value.param == "api_version"


def test_each_endpoint_has_its_own_secret(api: stripe.StripeClient) -> None:
    other = Receiver()
    other.start()
    try:
        made = api.v1.webhook_endpoints.create({"url": other.url, "enabled_events": ["*"]})
        other.secret = made.secret or ""
        api.v1.customers.create({})
        other.wait_for("customer.created")
    finally:
        other.stop()


def test_a_restart_delivers_what_was_still_owed(home: Path, receiver: Receiver) -> None:
    with simulator.running(home=home, webhook_url=receiver.url, webhook_secret=SECRET) as address:
        fault(address, kind="webhook_hold")
        made = client(address).v1.customers.create({})
    assert receiver.received == []
    with simulator.running(home=home, webhook_url=receiver.url, webhook_secret=SECRET) as address:
        fault(address, kind="webhook_release")
        [delivery] = receiver.wait_for("customer.created")
        assert delivery.event.data.object["id"] == made.id
        assert len(client(address).v1.webhook_endpoints.list().data) == 1
