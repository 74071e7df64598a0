"""Of receipts: their numbers, and the blocks that seal them."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "receipts of an account are numbered without gaps": """
        SELECT account.id
        FROM ledger_account AS account
        LEFT JOIN (
            SELECT shard, account_id, count(*) AS runs, count(DISTINCT sequence) AS numbers,
                   min(sequence) AS first, max(sequence) AS last
            FROM ledger_run WHERE part = 0 GROUP BY shard, account_id
        ) AS issued ON issued.shard = account.shard AND issued.account_id = account.id
        WHERE coalesce(issued.runs, 0) <> account.runs_count
           OR coalesce(issued.numbers, 0) <> account.runs_count
           OR issued.first <> 1 OR issued.last <> account.runs_count
    """,
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
            SELECT shard, block_number, count(*) AS runs, sum(microtokens) AS microtokens,
                   sum(micros) AS micros
            FROM ledger_run GROUP BY shard, block_number
        ) AS written ON written.shard = block.shard AND written.block_number = block.number
        WHERE block.number <> block.expected OR block.runs_count IS DISTINCT FROM written.runs
           OR block.microtokens IS DISTINCT FROM written.microtokens
           OR block.micros IS DISTINCT FROM written.micros
        UNION ALL
        SELECT run.shard, run.block_number
        FROM ledger_run AS run
        LEFT JOIN ledger_block AS block
            ON block.shard = run.shard AND block.number = run.block_number
        WHERE block.number IS NULL
    """,
}
