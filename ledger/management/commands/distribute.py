"""Spread the hot tables over several PostgreSQL nodes."""

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection, transaction

from ledger import distribution
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py distribute            print the statements; nothing is done
  manage.py distribute --json     {"statements": ["…"], "applied": false}
  manage.py distribute --apply    run them, in one transaction, on a Citus coordinator

Do it once, on a coordinator that knows its nodes, after migrating; rows that are there move to
their nodes meanwhile, so stop the workers first. docs/ledger/operating.md tells when it is time.
"""


class Command(CommandWithExamples):
    help = "Print, or run, what distributes the ledger's hot tables over Citus nodes by shard."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apply", action="store_true", help="run the statements")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if "ledger_account" not in connection.introspection.table_names():
            raise CommandError("there is no ledger in this database yet: run manage.py migrate")
        statements = distribution.statements()
        if options["apply"]:
            _apply(statements)
        if options["json"]:
            self.stdout.write(json.dumps({"statements": statements, "applied": options["apply"]}))
            return
        for statement in statements:
            self.stdout.write(statement)
        if options["apply"]:
            self.stdout.write(f"-- done: {len(statements) - 1} tables are distributed by shard")


def _apply(statements: list[str]) -> None:
    if not distribution.is_citus_there():
        raise CommandError(
            "this database has no Citus: install it on every node, then run"
            " CREATE EXTENSION citus; and SELECT citus_add_node('host', 5432); here"
            " (docs/ledger/operating.md)"
        )
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
