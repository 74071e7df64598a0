from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.stripe import simulator
from tests.billing.stripe_world import WEBHOOK_SECRET, StripeWorld
from tests.contract.stripe_client import CheckedHTTP


@pytest.fixture
def at_stripe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings) -> Iterator[StripeWorld]:
    """A simulator of Stripe that billing talks to. Its events go where the test sends them."""
    # The SDK waits half a second before it tries again; its tries are what is tested, not its wait.
    monkeypatch.setattr("stripe.HTTPClient.INITIAL_DELAY", 0.01)
    # Every answer must be what the SDK's own types promise. (The simulator holds every request
    # against them: what they do not know it refuses.)
    monkeypatch.setattr("stripe.RequestsClient", CheckedHTTP)
    monkeypatch.setattr("stripe.HTTPClient.MAX_DELAY", 0.02)
    settings.STRIPE_SECRET_KEY = "sk_test_of_the_tests"
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
    with simulator.running(home=tmp_path / "stripe") as address:
        settings.STRIPE_API_BASE = address
        yield StripeWorld(address)
