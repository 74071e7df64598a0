"""What has happened stays as it was written: the database itself refuses to change it."""

import re
import threading
from datetime import timedelta

import msgspec
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from ledger import catalog, heads
from ledger.catalog import NewRate
from ledger.errors import RateCardVersionEmpty, RateCardVersionPublished
from ledger.intake import NewPart
from ledger.models import Meter, Rate, RateCardVersion
from tests.ledger import broken_holds
from tests.ledger.builders import (
    NOON,
    accept,
    debit,
    make_account,
    make_lot,
    make_run,
    make_shop,
    publish_rates,
)

FACTS = {
    "ledger_entry": ["microtokens", "lot_id", "kind", "occurred_at"],
    "ledger_run": ["microtokens", "lot_id", "out_before_microtokens", "sequence", "body_digest"],
    "ledger_block": ["microtokens", "recorded_at"],
    "ledger_operation": ["key", "lot_id"],
    "ledger_submission": ["details", "batch_id"],
    "ledger_attribution": ["cost_centre", "workflow"],
    "ledger_conflict": ["run_key"],
    "ledger_head": ["hash", "published_at"],
    "ledger_batch": ["book_id", "received_at"],
    "ledger_correction": ["microtokens", "details", "version"],
    "ledger_partedrun": ["first_at", "run_key"],
    "ledger_retake": ["retaken_key", "run_id"],
}
TERMS_OF_A_LOT = [
    "account_id", "kind", "source", "priority", "issued_at", "effective_at", "granted_microtokens",
    "price_micros", "currency", "tiers",
    "rollover_microtokens_max", "rollover_expires_at", "rolled_from_lot_id",
]  # fmt: skip
TERMS_OF_A_HOLD = ["run_id", "body_digest", "microtokens", "actor", "life_seconds", "asked_at"]
TERMS_OF_A_LIMIT = ["scope", "scope_value", "period", "unit", "cap", "is_hard", "effective_at"]
CHANGES = [
    *[f"UPDATE ledger_hold SET {column} = {column}" for column in TERMS_OF_A_HOLD],
    *[f"UPDATE ledger_limit SET {column} = {column}" for column in TERMS_OF_A_LIMIT],
    "UPDATE ledger_hold SET expires_at = expires_at + interval '1 day' WHERE held_at IS NOT NULL",
    "UPDATE ledger_hold SET captured_at = NULL WHERE captured_at IS NOT NULL",
    "UPDATE ledger_limitreview SET asked = asked",
    "UPDATE ledger_limitexcess SET used_after = used_after",
    *[f"DELETE FROM ledger_{of}" for of in ("hold", "limit", "limitreview", "limitexcess")],
    *[f"UPDATE {table} SET {column} = {column}" for table in FACTS for column in FACTS[table]],
    *[f"DELETE FROM {table}" for table in FACTS],
    *[f"UPDATE ledger_lot SET {column} = {column}" for column in TERMS_OF_A_LOT],
    *[
        f"UPDATE ledger_lot SET {column} = {change} WHERE {column} IS NOT NULL"
        for column in ("expires_at", "closes_at")
        for change in (f"{column} + interval '1 second'", "NULL")
    ],
    "DELETE FROM ledger_lot",
    "UPDATE ledger_partedrun SET ended_at = ended_at + interval '1 second'",
    "UPDATE ledger_partedrun SET ended_at = NULL",
    "UPDATE ledger_retake SET marked_at = NULL",
]


@pytest.fixture
def history(db: None):
    """At least one row in each table of facts."""
    shop = make_shop()
    account_id = make_account(shop)
    make_lot(account_id, 5, hours=1_000)
    broken_holds.hold_something(shop)
    debit(shop, [make_run(7, run_id="a"), make_run(1, run_id="b"), make_run(2, run_id="b")])
    part = NewPart(id="1", last=True)
    debit(shop, [msgspec.structs.replace(make_run(1, run_id="p"), part=part, retake_of="a")])
    heads.publish(at=NOON)
    return shop


def test_the_database_refuses(history, subtests: pytest.Subtests) -> None:
    for change in CHANGES:
        [table] = re.findall(r"ledger_\w+", change)
        with subtests.test(change), connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone()[0] > 0, f"{table} has no row to protect"
            refusal = pytest.raises(DatabaseError, match="record of what happened")
            with refusal, transaction.atomic():
                cursor.execute(change)


def test_a_published_rate_never_changes(history) -> None:
    rate = Rate.objects.get()
    other = Meter.objects.create(book_id=history.book_id, code="rows", name="Rows")
    changes = [
        lambda: Rate.objects.update(microtokens=2),
        lambda: Rate.objects.all().delete(),
        lambda: Rate.objects.create(version=rate.version, meter=other, microtokens=1),
        lambda: RateCardVersion.objects.update(effective_at=NOON),
        lambda: RateCardVersion.objects.update(published_at=None),
        lambda: rate.version.delete(),
    ]
    for change in changes:
        with pytest.raises(DatabaseError, match=r"never changes|record"), transaction.atomic():
            change()


def test_a_rate_cannot_move_into_a_published_version(history) -> None:
    published = RateCardVersion.objects.get()
    draft = RateCardVersion.objects.create(
        rate_card=published.rate_card, number=2, effective_at=NOON + timedelta(days=1)
    )
    meter = Meter.objects.create(book_id=history.book_id, code="rows", name="Rows")
    rate = Rate.objects.create(version=draft, meter=meter, microtokens=1)
    rate.version = published
    with pytest.raises(DatabaseError, match="never changes"), transaction.atomic():
        rate.save()


def test_a_version_is_published_once_and_with_rates(history) -> None:
    published = RateCardVersion.objects.get()
    with pytest.raises(RateCardVersionPublished):
        catalog.publish_version(version_id=published.pk, at=NOON)
    empty = RateCardVersion.objects.create(
        rate_card=published.rate_card, number=2, effective_at=NOON
    )
    with pytest.raises(RateCardVersionEmpty):
        catalog.publish_version(version_id=empty.pk, at=NOON)


def test_of_two_versions_of_one_instant_the_one_published_last_rules(history) -> None:
    """A mistake is corrected by another version: the wrong one stays as it was."""
    publish_rates(history, [NewRate(meter="executions", microtokens=2)], effective_at=NOON)
    publish_rates(history, [NewRate(meter="executions", microtokens=3)], effective_at=NOON)
    assert [one.microtokens for one in accept(history, [make_run(1)]).runs] == [3]
    assert RateCardVersion.objects.filter(effective_at=NOON).count() == 2


def test_meters_form_no_circle(shop) -> None:
    catalog.create_meter(book_id=shop.book_id, code="cached", name="C", part_of="executions")
    whole, part = Meter.objects.get(code="executions"), Meter.objects.get(code="cached")
    for circle in (whole, part):
        whole.part_of = circle
        with pytest.raises(IntegrityError), transaction.atomic():
            whole.save()


def test_whoever_adds_a_rate_waits_for_its_versions_publication(
    transactional_db: None, shop
) -> None:
    publish_rates(shop, [NewRate(meter="executions")], effective_at=NOON - timedelta(days=9))
    catalog.create_meter(book_id=shop.book_id, code="rows", name="Rows")
    meter, rows = Meter.objects.order_by("id")
    draft = RateCardVersion.objects.create(
        rate_card_id=shop.rate_card_id, number=9, effective_at=NOON
    )
    Rate.objects.create(version=draft, meter=meter, microtokens=1)
    refusals: list[DatabaseError] = []

    def add_a_rate() -> None:
        try:
            Rate.objects.create(version_id=draft.pk, meter=rows, microtokens=1)
        except DatabaseError as error:
            refusals.append(error)
        finally:
            connection.close()

    other = threading.Thread(target=add_a_rate)
    with transaction.atomic():
        catalog.publish_version(version_id=draft.pk, at=NOON)
        other.start()
        other.join(0.3)
        assert other.is_alive(), "it does not wait"
    other.join(10)
    assert len(refusals) == 1
    assert Rate.objects.filter(version=draft).count() == 1
