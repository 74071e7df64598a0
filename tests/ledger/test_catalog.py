"""What PostgreSQL's own catalog says of our tables."""

from typing import Any

import pytest
from django.db import connection

# Keyed by its uuid: a batch spans shards.
NOT_SHARDED = {"ledger_batch"}


def rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def sharded_tables() -> set[str]:
    return {
        table
        for (table,) in rows(
            """
            SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
            WHERE relkind = 'r' AND attname = 'shard' AND relname LIKE 'ledger_%'
              AND relnamespace = current_schema::regnamespace
            """
        )
    }


def test_the_hot_tables_are_sharded(db: None) -> None:
    assert sharded_tables() == {
        f"ledger_{name}"
        for name in (
            "account", "attribution", "block", "conflict", "correction", "entry", "head", "hold",
            "intake", "limit", "limitexcess", "limitreview", "limituse", "lot", "operation",
            "parkedrun", "partedrun", "retake", "run", "standing", "submission", "usage",
            "usagefold",
        )
    }  # fmt: skip


def test_every_key_of_a_sharded_table_starts_with_the_shard(db: None) -> None:
    keys = rows(
        """
        SELECT relname, pg_get_indexdef(indexrelid), pg_get_indexdef(indexrelid, 1, true)
        FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE indisunique AND relname LIKE 'ledger_%'
          AND relnamespace = current_schema::regnamespace
        """
    )
    sharded = sharded_tables()
    of_sharded = [(key, first) for table, key, first in keys if table in sharded]
    assert len(of_sharded) >= len(sharded), "each has at least a primary key"
    assert [key for key, first in of_sharded if first != "shard"] == []


def test_every_reference_of_a_sharded_table_starts_with_the_shard_on_both_sides(db: None) -> None:
    references = rows(
        """
        SELECT conrelid::regclass::text, confrelid::regclass::text, mine.attname, theirs.attname
        FROM pg_constraint
        JOIN pg_attribute AS mine ON mine.attrelid = conrelid AND mine.attnum = conkey[1]
        JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = confkey[1]
        WHERE contype = 'f'
        """
    )
    sharded = sharded_tables()
    touching = [row for row in references if sharded.intersection(row[:2])]
    assert touching
    assert {row[2:] for row in touching} == {("shard", "shard")}
    assert not NOT_SHARDED.intersection(table for row in touching for table in row[:2])


@pytest.mark.parametrize("table", ["standing", "lot"])
def test_a_row_that_changes_all_day_changes_no_index(db: None, table: str) -> None:
    """Of what an update in the debit touches, only the flag that flips once is in an index."""
    changing = {
        "standing": {"runs_count", "in_use_out_microtokens", "in_use_lot_id"},
        "lot": {"out_microtokens"},
    }[table]
    indexes = rows(f"SELECT indexdef FROM pg_indexes WHERE tablename = 'ledger_{table}'")
    assert not [text for (text,) in indexes for column in changing if column in text]
