"""What is read from the SDK's source, and the skeletons made of it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import stripe

from billing.stripe import sdk_schema
from billing.stripe.simulator.contract import SERVICES
from tests.contract.stripe_client import check_object, contract


def test_the_schemas_are_of_the_installed_sdk() -> None:
    assert contract().api.sdk_version == stripe.VERSION
    assert contract().api.api_version == stripe.api_version


def test_reading_imports_nothing_of_the_sdk() -> None:
    program = (
        "import sys; from billing.stripe import sdk_schema;"
        f"sdk_schema.read({SERVICES!r});"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'stripe']"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_parameters_are_closed_and_say_what_is_required() -> None:
    route = contract().route("POST", "/v1/prices")
    assert route is not None
    parameters = route.operation.parameters
    assert parameters["required"] == ["currency"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["unit_amount"] == {"type": "integer"}
    assert parameters["properties"]["unit_amount_decimal"]["format"] == "decimal"


def test_literal_addresses_win_over_ids() -> None:
    route = contract().route("GET", "/v1/customers/search")
    assert route is not None
    assert route.ids == {}
    route = contract().route("GET", "/v1/customers/cus_1")
    assert route is not None
    assert route.ids == {"customer": "cus_1"}


@pytest.mark.parametrize("kind", sorted(contract().api.objects))
def test_a_skeleton_is_valid_before_anything_is_set(kind: str) -> None:
    check_object(contract().skeleton(kind))


def test_the_cache_holds_what_was_read_and_is_quick(tmp_path: Path) -> None:
    read = sdk_schema.read(SERVICES, cache=tmp_path)
    began = time.perf_counter()
    loaded = sdk_schema.read(SERVICES, cache=tmp_path)
    assert time.perf_counter() - began < 0.5
    assert loaded == read
    assert sdk_schema.read(SERVICES[:1], cache=tmp_path) != read, "another cut is another file"
