"""Publish the heads of the chains of blocks."""

import json
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ledger import heads

EXAMPLE = """
examples:
  manage.py publish_heads                  publish; how many shards have a head
  manage.py publish_heads -o heads.json    and write them to a file, to be kept elsewhere

Heads are published every hour anyway. Give them away (customers, an auditor, a public page): each
fixes all receipts before it, and says nothing of whose they are (docs/ledger/receipts.md).
"""


class Command(BaseCommand):
    help = "Publish the last block of every shard, so that nothing before it can be changed."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = EXAMPLE
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

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
