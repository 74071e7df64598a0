"""Heads are published each once, by the hour or by hand, and say where each shard stood."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from config.schedule import SCHEDULE
from ledger import heads, tasks
from ledger.models import Block, Head
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_run, make_shop


@pytest.fixture
def shop(db: None):
    shop = make_shop()
    make_account(shop)
    make_account(shop, "other")
    debit(shop, [make_run(1), make_run(1, account="other")])
    return shop


def test_a_head_is_the_last_block_of_its_shard(shop) -> None:
    debit(shop, [make_run(2)])
    published = heads.publish(at=NOON)
    assert [(one.shard, one.number) for one in published] == sorted(
        (shard, max(of_shard))
        for shard, of_shard in {
            block.shard: [one.number for one in Block.objects.filter(shard=block.shard)]
            for block in Block.objects.all()
        }.items()
    )
    for one in published:
        assert one.hash == bytes(Block.objects.get(shard=one.shard, number=one.number).hash)


def test_a_shard_without_new_blocks_has_no_new_head(shop) -> None:
    first = heads.publish(at=NOON)
    assert heads.publish(at=NOON + HOUR) == first
    debit(shop, [make_run(2)])
    second = heads.publish(at=NOON + 2 * HOUR)
    assert len([one for one in second if one.published_at == NOON + 2 * HOUR]) == 1
    assert Head.objects.count() == len(first) + 1


def test_what_was_published_by_then_is_told(shop) -> None:
    first = heads.publish(at=NOON)
    debit(shop, [make_run(2)])
    heads.publish(at=NOON + HOUR)
    assert heads.published(at=NOON + HOUR / 2) == first
    assert heads.published(at=NOON - HOUR) == []


def test_no_block_no_head(db: None) -> None:
    assert heads.publish(at=NOON) == []


def test_they_are_published_every_hour(shop) -> None:
    [planned] = [one for one in SCHEDULE.values() if one["task"].endswith(".publish_heads")]
    assert planned["task"] == tasks.publish_heads.name
    assert planned["schedule"].seconds == 3600
    tasks.publish_heads()
    assert Head.objects.exists()


def test_they_are_published_by_hand_and_written_to_a_file_to_be_kept(shop, tmp_path) -> None:
    out, path = StringIO(), tmp_path / "heads.json"
    call_command("publish_heads", "-o", path, stdout=out)
    count = Head.objects.count()
    assert out.getvalue() == f"{count} shards have a published head.\n"
    kept = json.loads(path.read_text())["heads"]
    assert len(kept) == count
    assert set(kept[0]) == {"shard", "number", "hash", "published_at"}
    before = path.read_text()
    with pytest.raises(CommandError, match="there already"):
        call_command("publish_heads", "-o", path)
    assert path.read_text() == before


def test_heads_say_nothing_of_whose_receipts_they_seal(shop) -> None:
    text = json.dumps(heads.as_document(heads.publish(at=NOON)))
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM ledger_account")
        ids = [one for (one,) in cursor.fetchall()]
    assert not [one for one in [*ids, "acme", "other"] if f'"{one}"' in text or f" {one}," in text]
