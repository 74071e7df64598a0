"""Pricing anew after a mistake in a price list."""

import json
from io import StringIO

import msgspec
import pytest
from django.core.management import CommandError, call_command

from ledger import accounts, catalog, corrections, queries, receipts, rerating
from ledger.catalog import NewRate
from ledger.errors import UnknownRateCardVersion
from ledger.intake import NewInference, NewPart
from ledger.models import Correction, RateCardVersion
from tests.ledger.builders import (
    HOUR,
    NOON,
    accept,
    debit,
    make_account,
    make_lot,
    make_run,
    make_shop,
    publish_rates,
)

LATER = NOON + 600 * HOUR


@pytest.fixture
def shop(db: None):
    """A run of 7 executions costs 70: a mistake, it should have been 7 times 4, or 7 times 13."""
    return make_shop([NewRate(meter="executions", microtokens=10)])


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 1_000, price_micros=10_000)
    return account_id


def correct(shop, microtokens, *, from_hours=None):
    """Publish another version of the card; its number."""
    effective_at = None if from_hours is None else NOON + from_hours * HOUR
    publish_rates(
        shop, [NewRate(meter="executions", microtokens=microtokens)], effective_at=effective_at
    )
    return RateCardVersion.objects.filter(rate_card_id=shop.rate_card_id).count()


def rerate(shop, number, *, key="k", account=None, dry_run=False):
    return rerating.rerate(
        of=rerating.plan(
            book_id=shop.book_id, rate_card="standard", number=number, account=account
        ),
        reason="wrong list",
        idempotency_key=key,
        dry_run=dry_run,
        at=LATER,
    )


def receipt(account_id, run_id="r"):
    return receipts.receipt(account=accounts.account(account_id=account_id), run_id=run_id)


def out(account_id) -> int:
    return sum(lot.out_microtokens for lot in queries.lots(account_ids=[account_id]))


def test_a_version_from_the_same_instant_corrects_the_one_before_it_for_new_runs(
    shop, account_id
) -> None:
    correct(shop, 4)
    correct(shop, 5)
    debit(shop, [make_run(7, run_id="r")])
    assert receipt(account_id).microtokens == 35


def test_a_correction_of_the_past_ends_where_the_next_version_begins(shop, account_id) -> None:
    correct(shop, 100, from_hours=2)
    correct(shop, 4)
    debit(shop, [make_run(1, run_id="r"), make_run(1, run_id="next", at=NOON + 3 * HOUR)])
    assert receipt(account_id).microtokens == 4
    assert receipt(account_id, "next").microtokens == 100


def test_what_became_cheaper_is_given_back(shop, account_id) -> None:
    debit(shop, [make_run(7, run_id="r"), make_run(1)])
    number = correct(shop, 4)
    result = rerate(shop, number)
    found = receipt(account_id)
    assert (found.version, found.microtokens, found.micros_by_currency) == (2, 28, {"EUR": 280})
    assert [(one.kind, one.microtokens, one.reason) for one in found.corrections] == [
        ("rerate", -42, "wrong list")
    ]
    [inference] = found.inferences
    version = RateCardVersion.objects.get(number=number)
    assert (inference.microtokens, inference.rate_card_version_id) == (28, version.pk)
    assert out(account_id) == 32
    difference = result.accounts["acme"]
    assert (difference.runs_count, difference.cheaper_microtokens, difference.micros) == (
        2,
        48,
        -480,
    )


def test_what_became_dearer_is_charged_to_the_lots_that_serve_the_runs_time(shop) -> None:
    account_id = make_account(shop)
    gone = make_lot(account_id, 75, hours=1)
    late = make_lot(account_id, 1_000, from_hours=2)
    debit(shop, [make_run(7, run_id="r")])
    rerate(shop, correct(shop, 13))
    found = receipt(account_id)
    assert (found.version, found.microtokens) == (2, 91)
    drawn = [(one.lot_id, one.lot_kind, one.microtokens) for one in found.drawn]
    assert drawn[0] == (gone, "prepaid", 75)
    assert [drawn[1][1], drawn[1][2]] == ["debt", 16]
    outs = {lot.id: lot.out_microtokens for lot in queries.lots(account_ids=[account_id])}
    assert outs[late] == 0


def test_each_inference_takes_the_version_of_its_own_time(shop, account_id) -> None:
    inferences = [
        NewInference(engine="engine", quantities={"executions": 1}, occurred_at=NOON + hours * HOUR)
        for hours in (0, 5)
    ]
    debit(shop, [msgspec.structs.replace(make_run(run_id="r"), inferences=inferences)])
    rerate(shop, correct(shop, 3, from_hours=2))
    assert [one.microtokens for one in receipt(account_id).inferences] == [10, 3]


def test_runs_before_the_versions_time_and_of_another_card_stay(shop, account_id) -> None:
    debit(shop, [make_run(7, run_id="r")])
    result = rerate(shop, correct(shop, 4, from_hours=1))
    assert (result.accounts, receipt(account_id).version) == ({}, 1)


def test_pricing_anew_twice_changes_nothing_more(shop, account_id) -> None:
    debit(shop, [make_run(7, run_id="r")])
    number = correct(shop, 4)
    rerate(shop, number)
    assert rerate(shop, number).accounts == {}
    assert rerate(shop, number, key="other").accounts == {}
    assert Correction.objects.count() == 1


def test_a_second_correction_starts_from_the_first(shop, account_id) -> None:
    debit(shop, [make_run(7, run_id="r")])
    rerate(shop, correct(shop, 4), key="first")
    rerate(shop, correct(shop, 6), key="second")
    found = receipt(account_id)
    assert (found.version, found.microtokens) == (3, 42)
    assert [one.microtokens for one in found.corrections] == [-42, 14]


def test_what_was_given_back_already_is_not_given_back_twice(shop, account_id) -> None:
    debit(shop, [make_run(7, run_id="part"), make_run(7, run_id="whole"), make_run(7, run_id="r")])
    for run_id, microtokens in (("part", 60), ("whole", None)):
        corrections.void(
            account=accounts.account(account_id=account_id),
            run_id=run_id,
            microtokens=microtokens,
            reason="",
            idempotency_key=run_id,
            at=LATER,
        )
    rerate(shop, correct(shop, 4))
    assert [receipt(account_id, run_id).microtokens for run_id in ("part", "whole", "r")] == [
        0,
        0,
        28,
    ]


def test_a_run_that_was_voided_whole_is_not_charged_when_it_becomes_dearer(
    shop, account_id
) -> None:
    debit(shop, [make_run(7, run_id="r")])
    corrections.void(
        account=accounts.account(account_id=account_id),
        run_id="r",
        reason="",
        idempotency_key="k",
        at=LATER,
    )
    rerate(shop, correct(shop, 13))
    assert (receipt(account_id).version, receipt(account_id).microtokens) == (2, 0)


def test_a_run_by_the_vendors_fault_stays_free(shop, account_id) -> None:
    failed = msgspec.structs.replace(make_run(7, run_id="r"), outcome="failed", fault="vendor")
    debit(shop, [failed])
    rerate(shop, correct(shop, 13))
    assert (receipt(account_id).version, out(account_id)) == (1, 0)


def test_parts_are_priced_anew_one_by_one(shop, account_id) -> None:
    for number in range(2):
        debit(
            shop,
            [msgspec.structs.replace(make_run(7, run_id="r"), part=NewPart(id=f"p{number}"))],
        )
    rerate(shop, correct(shop, 4))
    found = receipt(account_id)
    assert (found.version, found.microtokens) == (3, 56)
    assert [one.microtokens for one in found.inferences] == [28, 28]


def test_what_was_accepted_at_the_old_price_is_debited_and_priced_anew(shop, account_id) -> None:
    accept(shop, [make_run(7, run_id="r")])
    rerate(shop, correct(shop, 4))
    assert receipt(account_id).microtokens == 28


def test_a_run_for_which_the_correction_has_no_rate_stays_and_is_counted(shop, account_id) -> None:
    catalog.create_meter(book_id=shop.book_id, code="rows", name="Rows")
    debit(shop, [make_run(7, run_id="r")])
    publish_rates(shop, [NewRate(meter="rows", microtokens=1)])
    result = rerate(shop, 2)
    assert (result.unpriced_count, result.accounts) == (1, {})


def test_a_dry_run_tells_and_changes_nothing(shop, account_id) -> None:
    debit(shop, [make_run(7, run_id="r")])
    number = correct(shop, 4)
    dry = rerate(shop, number, dry_run=True)
    assert (receipt(account_id).version, out(account_id)) == (1, 70)
    assert rerate(shop, number).accounts == dry.accounts


def test_one_account_may_be_priced_anew_alone(shop, account_id) -> None:
    other_id = make_account(shop, "other")
    debit(shop, [make_run(7, run_id="r"), make_run(7, run_id="r", account="other")])
    rerate(shop, correct(shop, 4), account="other")
    assert receipt(account_id).microtokens == 70
    assert receipt(other_id).microtokens == 28


def test_a_draft_or_no_version_is_refused(shop) -> None:
    RateCardVersion.objects.create(rate_card_id=shop.rate_card_id, number=2, effective_at=NOON)
    for number in (2, 9):
        with pytest.raises(UnknownRateCardVersion):
            rerating.plan(book_id=shop.book_id, rate_card="standard", number=number)


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("rerate", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_shows_differences_then_makes_them(shop, account_id) -> None:
    debit(shop, [make_run(700_000, run_id="r")])
    correct(shop, 4)
    dry = told("standard", "2", "--dry-run").splitlines()
    assert dry[0].split() == ["account", "runs", "given", "back", "charged", "money"]
    assert dry[1].split()[:4] == ["acme", "1", "4.2", "0"]
    assert dry[-1] == "nothing was changed"
    answer = json.loads(told("standard", "2", "--json"))
    assert answer["accounts"]["acme"]["cheaper_microtokens"] == 4_200_000
    assert told("standard", "2") == "every run has the right price already\n"


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["standard", "9"], "has no published version 9"),
        (["gold", "1"], "rate card 'gold' has no published version 1"),
        (["standard", "1", "--account", "nobody"], "no account 'nobody'"),
        (["standard", "1", "--book", "nobody"], "no book 'nobody'"),
        (["standard", "1", "--key", "k" * 101], "--key"),
        (["standard", "1", "--reason", "k" * 301], "--reason"),
    ],
)
def test_the_command_refuses_what_it_does_not_find(shop, account_id, arguments, refusal) -> None:
    with pytest.raises(CommandError, match=refusal):
        told(*arguments)
