"""Of corrections, runs in parts and retakes."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "corrections of a run are numbered on from its first version without gaps": """
        SELECT account_id, run_key
        FROM ledger_correction
        GROUP BY shard, account_id, run_key
        HAVING min(version) <> 2 OR max(version) <> count(*) + 1
        UNION ALL
        SELECT correction.account_id, correction.run_key
        FROM ledger_correction AS correction
        LEFT JOIN ledger_run AS run
            ON run.shard = correction.shard AND run.account_id = correction.account_id
           AND run.run_key = correction.run_key AND run.part = 0
        WHERE run.run_key IS NULL
    """,
    "a correction moves what its entries move": """
        SELECT correction.account_id, correction.run_key, correction.version
        FROM ledger_correction AS correction
        LEFT JOIN LATERAL (
            SELECT sum(CASE kind WHEN 'return' THEN -microtokens ELSE microtokens END)
                AS microtokens
            FROM ledger_entry AS entry
            WHERE entry.shard = correction.shard AND entry.account_id = correction.account_id
              AND entry.run_key = correction.run_key AND entry.kind IN ('return', 'charge')
              AND entry.operation_key
                  = 'correction:' || correction.run_key || ':' || correction.version
        ) AS moved ON true
        WHERE correction.microtokens <> coalesce(moved.microtokens, 0)
        UNION ALL
        SELECT entry.account_id, entry.run_key, NULL
        FROM ledger_entry AS entry
        WHERE entry.kind IN ('return', 'charge') AND NOT EXISTS (
            SELECT FROM ledger_correction AS correction
            WHERE correction.shard = entry.shard AND correction.account_id = entry.account_id
              AND correction.run_key = entry.run_key
              AND entry.operation_key
                  = 'correction:' || correction.run_key || ':' || correction.version
        )
    """,
    "what expires otherwise than by its lot's closing was given back just before": """
        SELECT lot_id, operation_key
        FROM ledger_entry
        WHERE kind IN ('expire', 'return', 'repaid', 'thaw', 'restore')
          AND operation_key <> 'close:' || lot_id
        GROUP BY shard, lot_id, operation_key
        HAVING sum(microtokens) FILTER (WHERE kind = 'expire')
               > coalesce(sum(microtokens) FILTER (WHERE kind <> 'expire'), 0)
    """,
    "a run costs nothing less than nothing, whatever was given back": """
        SELECT correction.account_id, correction.run_key
        FROM (
            SELECT shard, account_id, run_key, sum(microtokens) AS microtokens
            FROM ledger_correction GROUP BY shard, account_id, run_key
        ) AS correction
        JOIN LATERAL (
            SELECT sum(microtokens) AS microtokens
            FROM ledger_run AS run
            WHERE run.shard = correction.shard AND run.account_id = correction.account_id
              AND run.run_key = correction.run_key
        ) AS debited ON true
        WHERE debited.microtokens + correction.microtokens < 0
    """,
    "what a correction charges is drawn from lots of the run's own time": """
        SELECT entry.account_id, entry.run_key, entry.lot_id
        FROM ledger_entry AS entry
        JOIN ledger_run AS run
            ON run.shard = entry.shard AND run.account_id = entry.account_id
           AND run.run_key = entry.run_key AND run.part = 0
        JOIN ledger_lot AS lot ON lot.shard = entry.shard AND lot.id = entry.lot_id
        WHERE entry.kind = 'charge'
          AND (run.occurred_at < lot.effective_at OR run.occurred_at >= lot.expires_at)
    """,
    "a run in parts has a row that costs nothing, and parts": """
        SELECT run.account_id, run.run_key
        FROM ledger_run AS run
        LEFT JOIN ledger_partedrun AS parted
            ON parted.shard = run.shard AND parted.account_id = run.account_id
           AND parted.run_key = run.run_key
        WHERE run.part = 0 AND run.flags & 8 <> 0  -- IN_PARTS
          AND (run.microtokens <> 0 OR parted.run_key IS NULL OR NOT EXISTS (
              SELECT FROM ledger_run AS part
              WHERE part.shard = run.shard AND part.account_id = run.account_id
                AND part.run_key = run.run_key AND part.part <> 0
          ))
        UNION ALL
        SELECT part.account_id, part.run_key
        FROM ledger_run AS part
        LEFT JOIN ledger_run AS run
            ON run.shard = part.shard AND run.account_id = part.account_id
           AND run.run_key = part.run_key AND run.part = 0
        WHERE part.part <> 0 AND coalesce(run.flags & 8 = 0, true)
    """,
    "a retake is noted, and a run that is marked retaken has one": """
        SELECT run.account_id, run.run_key
        FROM ledger_run AS run
        LEFT JOIN ledger_retake AS retake
            ON retake.shard = run.shard AND retake.account_id = run.account_id
           AND retake.run_key = run.run_key
        WHERE run.flags & 4 <> 0 /* RETAKE */ AND retake.run_key IS NULL
        UNION ALL
        SELECT correction.account_id, correction.run_key
        FROM ledger_correction AS correction
        LEFT JOIN ledger_retake AS retake
            ON retake.shard = correction.shard AND retake.account_id = correction.account_id
           AND retake.retaken_key = correction.run_key AND retake.marked_at IS NOT NULL
        WHERE correction.kind = 'retaken' AND retake.run_key IS NULL
        UNION ALL
        SELECT retake.account_id, retake.run_key
        FROM ledger_retake AS retake
        LEFT JOIN ledger_correction AS correction
            ON correction.shard = retake.shard AND correction.account_id = retake.account_id
           AND correction.run_key = retake.retaken_key AND correction.kind = 'retaken'
        WHERE retake.marked_at IS NOT NULL AND correction.run_key IS NULL
    """,
}
