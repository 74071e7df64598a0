"""What most tests of the ledger begin with. A file whose accounts begin otherwise says so itself,
in fixtures of the same names; one whose tests commit is marked django_db(transaction=True)."""

import pytest

from tests.ledger.builders import Shop, make_account, make_shop


@pytest.fixture
def shop(db: None) -> Shop:
    """A book whose one rate is a microtoken an execution."""
    return make_shop()


@pytest.fixture
def account_id(shop: Shop) -> int:
    """The shop's account `acme`, which has nothing yet."""
    return make_account(shop)
