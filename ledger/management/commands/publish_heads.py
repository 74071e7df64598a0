"""Publish the heads of the chains of blocks."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from ledger import heads
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py publish_heads                  publish; how many shards have a head
  manage.py publish_heads -o heads.json    and write them to a file, to be kept elsewhere

Heads are published every hour anyway. Give them away (customers, an auditor, a public page): each
fixes all receipts before it, and says nothing of whose they are (docs/ledger/receipts.md).
"""


class Command(CommandWithExamples):
    help = "Publish the last block of every shard, so that nothing before it can be changed."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-o", "--output", type=Path, help="also write them to this new file")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path | None = options["output"]
        if path is not None and path.exists():
            raise CommandError(f"{path} is there already: kept heads are not overwritten")
        published = heads.publish(at=timezone.now())
        if path is not None:
            try:
                path.write_text(json.dumps(heads.as_document(published), indent=1) + "\n")
            except OSError as error:
                raise CommandError(f"can't write {path}: {error.strerror}") from None
        self.stdout.write(f"{len(published)} shards have a published head.")
