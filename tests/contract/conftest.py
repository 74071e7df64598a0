from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from billing.stripe import simulator
from tests.contract.receiver import Receiver
from tests.contract.stripe_client import client


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def address(home: Path) -> Iterator[str]:
    """A simulator of its own for each test."""
    with simulator.running(home=home) as address:
        yield address


@pytest.fixture
def api(address: str) -> stripe.StripeClient:
    return client(address)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()
