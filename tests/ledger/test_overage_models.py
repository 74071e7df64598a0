"""Overage by volume and by the package: what runs cost, what receipts say, what limits count."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger import accounts, corrections, heads, limits, proofs, queries, receipts
from ledger.errors import LimitReached
from ledger.limits import NewLimit
from ledger.reported import NewPart
from ledger.value import Package, Tier, Tiers
from ledger.verify_receipts import main
from tests.ledger import holding
from tests.ledger.builders import HOUR, NOON, debit, make_overage, make_run

TOKEN = 1_000_000
CENT = 10_000
VOLUME = Tiers(
    model="volume",
    steps=(
        Tier(up_to_microtokens=100 * TOKEN, micros_per_token=10 * CENT),
        Tier(up_to_microtokens=None, micros_per_token=5 * CENT),
    ),
)
PACKAGE = Tiers(model="package", package=Package(microtokens=10 * TOKEN, micros=70 * CENT))
CHEAPER = (
    "The period's overage passes 100 tokens with it: each of its tokens, those before too, costs"
    " 0.05 EUR now, no longer 0.1 EUR."
)


def drawn(account_id: int, run_id: str) -> tuple[int, str]:
    found = receipts.receipt(account=accounts.account(account_id=account_id), run_id=run_id)
    [one] = found.drawn
    assert found.micros_by_currency == {"EUR": one.micros}
    return one.micros, one.note


@pytest.mark.parametrize(
    ("before", "run", "micros", "note"),
    [
        (100 * TOKEN - 1, 1, 1, ""),
        (99 * TOKEN, TOKEN, 10 * CENT, ""),
        (100 * TOKEN, 1, -500 * CENT, CHEAPER),
        (100 * TOKEN, TOKEN, -495 * CENT, CHEAPER),
        (100 * TOKEN + 1, 1, 0, ""),
        (100 * TOKEN, 100 * TOKEN, 0, CHEAPER),
        (101 * TOKEN, TOKEN, 5 * CENT, ""),
    ],
)
def test_by_volume_a_run_with_which_the_price_falls_makes_the_others_cheaper(
    shop, account_id, before: int, run: int, micros: int, note: str
) -> None:
    make_overage(account_id, tiers=VOLUME)
    debit(shop, [make_run(before, run_id="before")])
    debit(shop, [make_run(run, run_id="run")])
    assert drawn(account_id, "run") == (micros, note)


def test_a_run_that_reaches_the_cheaper_tier_alone_is_no_surprise(shop, account_id) -> None:
    make_overage(account_id, tiers=VOLUME)
    debit(shop, [make_run(200 * TOKEN, run_id="run")])
    assert drawn(account_id, "run") == (1_000 * CENT, "")


def test_a_package_is_paid_by_the_run_that_begins_it(shop, account_id) -> None:
    make_overage(account_id, tiers=PACKAGE)
    debit(shop, [make_run(1, run_id="a"), make_run(10 * TOKEN - 1, run_id="b")])
    debit(shop, [make_run(1, run_id="c"), make_run(20 * TOKEN, run_id="d")])
    begun = "It lies in a package of 10 tokens that was begun before and is paid for."
    assert [drawn(account_id, run_id) for run_id in "abcd"] == [
        (70 * CENT, ""),
        (0, begun),
        (70 * CENT, ""),
        (140 * CENT, ""),
    ]


def test_a_free_tier_is_named_on_the_receipt(shop, account_id) -> None:
    tiers = [
        Tier(up_to_microtokens=5, micros_per_token=0),
        Tier(up_to_microtokens=None, micros_per_token=100_000),
    ]
    make_overage(account_id, tiers=tiers)
    debit(shop, [make_run(cost, run_id=str(cost)) for cost in (5, 1, 9)])
    assert [drawn(account_id, run_id) for run_id in ("5", "1", "9")] == [
        (0, "It lies in a tier of the period's overage that is free."),
        (0, "It is worth less than a millionth of 1 EUR."),
        (1, ""),
    ]


def test_what_is_given_back_may_make_the_rest_dearer_again(shop, account_id) -> None:
    make_overage(account_id, tiers=VOLUME)
    debit(shop, [make_run(100 * TOKEN, run_id="most"), make_run(TOKEN, run_id="last")])
    corrected = corrections.void(
        account=accounts.account(account_id=account_id),
        run_id="last",
        reason="",
        idempotency_key="void",
        at=NOON + HOUR,
    )
    assert corrected.micros == 495 * CENT
    receipt = receipts.receipt(account=accounts.account(account_id=account_id), run_id="last")
    assert (receipt.drawn, receipt.micros_by_currency) == ([], {})
    [lot] = [one for one in queries.lots(account_ids=[account_id]) if one.kind == "overage"]
    assert lot.out_microtokens == 100 * TOKEN


def test_the_receipt_of_a_part_that_was_given_back_tells_both(shop, account_id) -> None:
    make_overage(account_id, tiers=VOLUME)
    debit(shop, [make_run(99 * TOKEN, run_id="most"), make_run(2 * TOKEN, run_id="last")])
    corrections.void(
        account=accounts.account(account_id=account_id),
        run_id="last",
        microtokens=TOKEN,
        reason="",
        idempotency_key="void",
        at=NOON + HOUR,
    )
    assert drawn(account_id, "last") == (
        10 * CENT,
        f"{CHEAPER} The period's overage does not pass 100 tokens any more: each of its tokens,"
        " those before too, costs 0.1 EUR now, no longer 0.05 EUR.",
    )


def test_a_limit_in_money_counts_what_a_run_saves_and_nothing_of_it_as_excess(
    shop, account_id
) -> None:
    make_overage(account_id, tiers=VOLUME)
    cap = NewLimit(scope="account", period="month", unit="money", cap=400 * CENT, hard=True)
    limit = limits.set_limit(account_id=account_id, limit=cap, idempotency_key="limit", at=NOON)
    debit(shop, [make_run(100 * TOKEN, run_id="dear")])
    debit(shop, [make_run(TOKEN, run_id="cheaper")])
    now = limits.limit_now(account_id=account_id, limit_id=limit.id, at=NOON)
    assert [use.used for use in now.uses] == [505 * CENT]
    [excess] = limits.excesses(account_id=account_id)
    assert (excess.used_before, excess.used_after) == (0, 1_000 * CENT)


def test_a_part_that_makes_others_cheaper_takes_nothing_out_of_its_runs_hold(
    shop, account_id
) -> None:
    make_overage(account_id, tiers=VOLUME)
    holding.limit(account_id, 900 * CENT, unit="money")
    debit(shop, [make_run(60 * TOKEN)])
    holding.hold(shop, 30 * TOKEN, run="r")
    assert holding.used(account_id) == {"": (600 * CENT, 300 * CENT)}
    debit(shop, [make_run(40 * TOKEN)])
    part = replace(make_run(TOKEN, run_id="r"), part=NewPart(id="1"))
    debit(shop, [part])
    assert holding.used(account_id) == {"": (505 * CENT, 300 * CENT)}
    with pytest.raises(LimitReached):
        holding.hold(shop, 2 * TOKEN + TOKEN * 95, run="too much")
    # 10 more at 5 cents each, after the 29 that are held: none of them costs less than nothing.
    assert holding.hold(shop, 10 * TOKEN, run="s").micros == 50 * CENT


def test_a_receipt_with_money_below_nothing_can_be_verified(
    shop, account_id, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_overage(account_id, tiers=VOLUME)
    debit(shop, [make_run(100 * TOKEN), make_run(TOKEN, run_id="cheaper")])
    heads.publish(at=NOON)
    account = accounts.account(account_id=account_id)
    proofs.export(account=account, folder=tmp_path / "export", at=NOON)
    assert main([str(tmp_path / "export"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    text = (tmp_path / "export" / "receipts.jsonl").read_text()
    assert str(-495 * CENT) in text
    (tmp_path / "export" / "receipts.jsonl").write_text(text.replace(str(-495 * CENT), "495"))
    assert main([str(tmp_path / "export")]) == 1
