from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from billing.stripe import simulator
from tests.contract.receiver import Receiver
from tests.contract.stripe_client import client
from tests.contract.stripe_client import contract as read_contract


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the SDK's source takes half a second; every simulator of a run reads the same."""
    monkeypatch.setattr("billing.stripe.simulator.contract.load", lambda home: read_contract())


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
