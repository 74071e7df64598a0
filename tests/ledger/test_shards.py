"""In how many shards accounts are opened: a setting that moves none of those that are there."""

from django.test import override_settings

from ledger import accounts, queries
from ledger.models import Account
from ledger.units import SHARDS, shard_of, shard_of_code, shards_of_code
from tests.ledger.builders import NOON, debit, make_account, make_lot, make_run

CODES = [f"account-{number}" for number in range(40)]
POWERS = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_new_accounts_are_opened_in_the_shards_that_are_in_use(shop, settings) -> None:
    assert settings.SHARDS_IN_USE == 32
    assert {shard_of(make_account(shop, code)) for code in CODES} <= set(range(32))
    for shards in POWERS:
        with override_settings(SHARDS_IN_USE=shards):
            opened = [make_account(shop, f"{code} of {shards}") for code in CODES]
        found = {shard_of(account_id) for account_id in opened}
        assert max(found) < shards
        assert len(found) >= min(shards, 20) * 0.75, "they are spread"


def test_an_account_may_be_in_any_shard_in_which_it_could_have_been_opened() -> None:
    for code in CODES:
        opened = {shard_of_code(book_id=7, code=code, shards=shards) for shards in POWERS}
        assert shards_of_code(book_id=7, code=code) == opened
        assert 0 in opened
        assert shard_of_code(book_id=7, code=code, shards=SHARDS) in opened


def test_accounts_work_on_where_they_are_when_more_or_fewer_shards_are_in_use(shop) -> None:
    with override_settings(SHARDS_IN_USE=256):
        wide = {code: make_account(shop, code) for code in CODES[:20]}
    with override_settings(SHARDS_IN_USE=1):
        narrow = {code: make_account(shop, code) for code in CODES[20:]}
        assert {shard_of(account_id) for account_id in narrow.values()} == {0}
    opened = wide | narrow
    for shards in (256, 4, 1):
        with override_settings(SHARDS_IN_USE=shards):
            found = accounts.find_all(book_id=shop.book_id, codes=[*CODES, "nobody"])
            assert {code: facts.id for code, facts in found.items()} == opened
            for code, account_id in opened.items():
                assert make_account(shop, code) == account_id, "it is there: none is opened"
                make_lot(account_id, 10)
            debit(shop, [make_run(3, account=code, run_id=f"{shards}-{code}") for code in CODES])
    balances = queries.balances(account_ids=list(opened.values()), at=NOON)
    assert {one.available_microtokens for one in balances.values()} == {3 * (10 - 3)}
    assert Account.objects.filter(book_id=shop.book_id).count() == len(CODES)
