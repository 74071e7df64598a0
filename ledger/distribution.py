"""Spread the hot tables over several PostgreSQL nodes, by shard, with Citus.

Every key of a hot table starts with its shard, and a debit is one shard's transaction: so the
same schema works on one node and on many, and a debit stays one node's transaction. Tables
without a shard (books, rate cards, billing's) stay on the coordinator.

Statements: https://docs.citusdata.com/en/stable/develop/api_udf.html#create-distributed-table
"""

from graphlib import TopologicalSorter
from typing import Final

from django.db import connection

from ledger import sql

COLUMN: Final = "shard"
_FIRST: Final = "ledger_account"
# Our triggers only refuse changes of the row at hand; Citus can't know that.
_ALLOW_TRIGGERS: Final = "SET citus.enable_unsafe_triggers TO on;"


def hot_tables() -> list[str]:
    """The tables that have a shard, each after those that it refers to."""
    tables = {table for (table,) in sql.rows("hot_tables")}
    graph: dict[str, set[str]] = {table: set() for table in sorted(tables)}
    for table, referred in sql.rows("references_between_tables"):
        if table in tables and referred in tables and table != referred:
            graph[table].add(referred)
    return list(TopologicalSorter(graph).static_order())


def statements() -> list[str]:
    """What distributes them, one statement each, all colocated: a shard's rows share a node."""
    tables = hot_tables()
    tables.remove(_FIRST)
    return [
        _ALLOW_TRIGGERS,
        _distribute(_FIRST, "none"),
        *(_distribute(table, _FIRST) for table in tables),
    ]


def is_citus_there() -> bool:
    """Whether this database has the extension."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")
        [there] = cursor.fetchone()
    return bool(there)


def _distribute(table: str, colocate_with: str) -> str:
    return (
        f"SELECT create_distributed_table('{table}', '{COLUMN}',"
        f" colocate_with => '{colocate_with}');"
    )
