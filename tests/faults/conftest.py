"""An installation with a migrated database takes a while to make: it is made once, and copied."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.stripe import sdk_schema
from billing.stripe.simulator import contract
from tests.faults import plays
from tests.faults.processes import Installation, installation


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A home with an empty database, which nobody uses."""
    with installation(tmp_path_factory.mktemp("migrated") / "home") as made:
        answer = made.manage("migrate", "--verbosity", "0")
        assert answer.returncode == 0, answer.stderr
        made.wait_until_nothing_is_left()
        # What Stripe's stand-in reads of the SDK's source takes a second, and is kept in the home.
        sdk_schema.read(contract.SERVICES, cache=made.home / "cache")
        yield made


@pytest.fixture
def fresh(migrated: Installation, tmp_path: Path) -> Iterator[Installation]:
    """A copy of it."""
    with plays.copied(migrated, tmp_path / "home") as made:
        yield made
