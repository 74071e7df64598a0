"""Of receipts: their numbers, whom they name, and the chain of blocks that seals them."""

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec
import psycopg
from django.db import connection, transaction

from ledger import chain, merkle
from ledger.chain import NO_BLOCK
from ledger.invariants.rows import BrokenRows, Row

CHAINED: Final = "a block names the root of its receipts and the block before it"
ATTRIBUTED: Final = "an attribution's key is the digest of its names"

INVARIANTS: Final[dict[str, str]] = {
    "a run says who it is for": """
        SELECT run.account_id, run.run_key
        FROM ledger_run AS run
        LEFT JOIN ledger_attribution AS attribution
            ON attribution.shard = run.shard AND attribution.account_id = run.account_id
           AND attribution.key = run.attribution_key
        WHERE attribution.key IS NULL
    """,
    "a block counts its runs, and blocks of a shard are numbered without gaps": """
        SELECT block.shard, block.number
        FROM (
            SELECT *, row_number() OVER (PARTITION BY shard ORDER BY number) AS expected
            FROM ledger_block
        ) AS block
        LEFT JOIN (
            SELECT shard, block_number, sum(runs) AS runs, sum(corrections) AS corrections,
                   sum(microtokens) AS microtokens, sum(micros) AS micros
            FROM (
                SELECT shard, block_number, count(*) AS runs, 0 AS corrections,
                       sum(microtokens) AS microtokens, sum(micros) AS micros
                FROM ledger_run GROUP BY shard, block_number
                UNION ALL
                SELECT shard, block_number, 0, count(*), sum(microtokens), sum(micros)
                FROM ledger_correction GROUP BY shard, block_number
            ) AS of_kind
            GROUP BY shard, block_number
        ) AS written ON written.shard = block.shard AND written.block_number = block.number
        WHERE block.number <> block.expected OR block.runs_count IS DISTINCT FROM written.runs
           OR block.corrections_count IS DISTINCT FROM written.corrections
           OR block.microtokens IS DISTINCT FROM written.microtokens
           OR block.micros IS DISTINCT FROM written.micros
        UNION ALL
        SELECT run.shard, run.block_number
        FROM ledger_run AS run
        LEFT JOIN ledger_block AS block
            ON block.shard = run.shard AND block.number = run.block_number
        WHERE block.number IS NULL
        UNION ALL
        SELECT correction.shard, correction.block_number
        FROM ledger_correction AS correction
        LEFT JOIN ledger_block AS block
            ON block.shard = correction.shard AND block.number = correction.block_number
        WHERE block.number IS NULL
    """,
    "each correction is the leaf that its block has at its position": """
        SELECT correction.shard, correction.block_number, correction.block_position,
               correction.run_key
        FROM ledger_correction AS correction
        LEFT JOIN ledger_block AS block
            ON block.shard = correction.shard AND block.number = correction.block_number
        WHERE block_position % 16 <> 0
           OR substring(block.leaves FROM 2 * block_position + 1 FOR 32) IS DISTINCT FROM sha256(
            '\\x0043' || int2send(correction.shard) || int8send(account_id) || uuid_send(run_key)
            || int4send(version)
            || int8send((extract(epoch FROM correction.recorded_at) * 1000000)::bigint)
            || int8send(correction.microtokens) || int8send(correction.micros) || sha256(details)
        )
    """,
    "a published head is a block of its chain, and heads only grow": """
        SELECT head.shard, head.number
        FROM (
            SELECT *, lag(published_at) OVER (PARTITION BY shard ORDER BY number) AS before
            FROM ledger_head
        ) AS head
        LEFT JOIN ledger_block AS block
            ON block.shard = head.shard AND block.number = head.number
        WHERE block.hash IS DISTINCT FROM head.hash OR head.published_at < head.before
    """,
}

_BLOCKS_PER_FETCH: Final = 20
_BLOCKS: Final = """
    SELECT shard, number, recorded_at, leaves, root, previous_hash, hash
    FROM ledger_block
    ORDER BY shard, number
"""
_ATTRIBUTIONS: Final = """
    SELECT account_id, key, workflow, project, job, cost_centre, department, actor
    FROM ledger_attribution
"""


def _blocks_out_of_chain() -> list[Row]:
    """Blocks in order, each against its own leaves and the one before it."""
    broken = BrokenRows()
    before = (-1, NO_BLOCK)
    with (
        transaction.atomic(),
        connection.wrap_database_errors,
        psycopg.ServerCursor(connection.connection, "chain") as cursor,
    ):
        cursor.itersize = _BLOCKS_PER_FETCH
        cursor.execute(_BLOCKS, binary=True)
        for shard, number, recorded_at, packed, root, previous, found in cursor:
            expected = before[1] if before[0] == shard else NO_BLOCK
            before = (shard, found)
            leaves = [packed[begin : begin + 32] for begin in range(0, len(packed), 32)]
            is_sealed = previous == expected and merkle.root(leaves) == root
            if not is_sealed or found != chain.block_hash(
                shard=shard,
                number=number,
                recorded_at=recorded_at,
                leaves_count=len(leaves),
                previous=previous,
                root=root,
            ):
                broken.add(CHAINED, (shard, number))
    return broken.of([CHAINED]).get(CHAINED, [])


def _attributions_of_other_names() -> list[Row]:
    broken = BrokenRows()
    encode = msgspec.json.encode
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(_ATTRIBUTIONS)
        for account_id, key, *names in cursor:
            if hashlib.sha256(encode(names)).digest()[:16] != key.bytes:
                broken.add(ATTRIBUTED, (account_id, key))
    return broken.of([ATTRIBUTED]).get(ATTRIBUTED, [])


CHECKS: Final[dict[str, Callable[[], list[Row]]]] = {
    CHAINED: _blocks_out_of_chain,
    ATTRIBUTED: _attributions_of_other_names,
}
