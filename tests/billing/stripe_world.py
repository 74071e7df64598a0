"""Stripe as tests see it from outside: what buyers and banks do, and what it then tells us."""

import json
import time
from dataclasses import dataclass
from typing import Any, cast

import requests
import stripe
from django.test import Client

from billing.stripe import outbox
from tests.contract.scenes import advance, fault, logged, submit

WEBHOOK_SECRET = "whsec_of_the_tests"
WEBHOOK = "/api/v1/stripe/webhook"

Json = dict[str, Any]


@dataclass(frozen=True)
class StripeWorld:
    address: str

    def api(self) -> stripe.StripeClient:
        return stripe.StripeClient("sk_test_of_the_tests", base_addresses={"api": self.address})

    def fault(self, **facts: Any) -> None:
        fault(self.address, **facts)

    def advance(self, seconds: int) -> None:
        advance(self.address, seconds)

    def received(self, path: str = "", method: str = "POST") -> list[Json]:
        return logged(self.address, path, method)

    def pay(self, url: str, card: str = "4242424242424242", **more: str) -> requests.Response:
        """Go through the hosted page as a buyer does."""
        return submit(url, card, **more)

    def bank_answers(self, *, session_id: str, outcome: str) -> None:
        facts = {"checkout_session": session_id, "outcome": outcome}
        requests.post(f"{self.address}/_sim/async", json=facts, timeout=10).raise_for_status()

    def tell(self, path: str, **facts: Any) -> None:
        """What banks, cardholders and tax offices do (/_sim)."""
        requests.post(f"{self.address}/_sim/{path}", json=facts, timeout=10).raise_for_status()

    def events(self, *types: str) -> list[Json]:
        """Events of these types, oldest first."""
        listed = self.api().v1.events.list({"limit": 100})
        bodies = [event.to_dict(for_json=True) for event in listed.auto_paging_iter()]
        return [body for body in reversed(bodies) if not types or body["type"] in types]


def deliver(event: Json, *, secret: str = WEBHOOK_SECRET, signed_at: int | None = None) -> Any:
    """Post an event to our webhook, signed as Stripe signs it; the response."""
    body = json.dumps(event)
    header = cast(Any, stripe.WebhookSignature).generate_signature_header(
        body, secret, signed_at or int(time.time())
    )
    return Client().post(
        WEBHOOK, body, content_type="application/json", headers={"Stripe-Signature": header}
    )


def send_all(at: Any) -> None:
    """Send what the outbox holds, and what follows from it."""
    outbox.send_due(at=at)
