"""Heads of the chains, published: what the past is held against.

A head is the number and the hash of a shard's last block, and fixes every receipt up to it
(ledger.chain). Once somebody else keeps a head, nobody can change, drop or reorder what stands
before it, or cut off the end, unnoticed: ledger/verify_receipts.py compares. Heads say nothing
of whose receipts they seal, so they may be shown to anyone.

They are published every hour, and whenever somebody asks for it: written down for ever, each
once, and shown by the API. A shard that has no new block since has no new head.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from ledger import sql
from ledger.models import Head
from ledger.units import SHARDS


@dataclass(frozen=True, kw_only=True)
class PublishedHead:
    """The last block of a shard when heads were published."""

    shard: int
    number: int
    hash: bytes
    published_at: datetime


def publish(*, at: datetime) -> list[PublishedHead]:
    """Publish the head of every shard; all heads as they are published now.

    A shard at a time: blocks that are written meanwhile are in the next publication.
    """
    with transaction.atomic():
        for (shard,) in sql.rows("shards_to_publish", shards=SHARDS):
            sql.execute("publish_head", shard=shard, at=at)
    return published(at=at)


def published(*, at: datetime) -> list[PublishedHead]:
    """For each shard, in order, the last head that was published by then."""
    return sql.query(PublishedHead, "heads_at", at=at)


def of_shard(*, shard: int) -> list[PublishedHead]:
    """All heads of a shard that ever were published, from the first."""
    return [
        PublishedHead(
            shard=one.shard,
            number=one.number,
            hash=bytes(one.hash),
            published_at=one.published_at,
        )
        for one in Head.objects.filter(shard=shard).order_by("number")
    ]


def as_document(heads: list[PublishedHead]) -> dict[str, Any]:
    """The form in which heads are given out, and in which the verifier reads them."""
    return {
        "heads": [
            {
                "shard": one.shard,
                "number": one.number,
                "hash": one.hash.hex(),
                "published_at": one.published_at.astimezone(UTC).isoformat(),
            }
            for one in heads
        ]
    }
