"""Export an account's receipts with their proofs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from ledger import accounts, proofs
from ledger.errors import UnknownAccount
from ledger.management.books import book_of
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py export_receipts acme -o acme-receipts
  manage.py export_receipts acme -o acme-june --since 2026-06-01 --until 2026-07-01

Whoever has the folder checks it without us, with nothing but Python:

  python ledger/verify_receipts.py acme-receipts --heads heads-i-kept.json

--since and --until choose by the time at which receipts were recorded, from the one instant on
and before the other (UTC unless they name a zone). docs/ledger/receipts.md describes the files.
"""


class Command(CommandWithExamples):
    help = "Write an account's receipts to a folder, with proofs that can be checked without us."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", help="the account's code")
        parser.add_argument(
            "-o", "--output", type=Path, required=True, help="a folder, not there yet"
        )
        parser.add_argument("--book", help="the vendor's code; not needed if there is only one")
        parser.add_argument(
            "--since", metavar="TIME", help="ISO 8601: 2026-06-01, 2026-06-01T09:00Z"
        )
        parser.add_argument("--until", metavar="TIME", help="the same")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["output"]
        since, until = (_instant(name, options[name]) for name in ("since", "until"))
        if since is not None and until is not None and since >= until:
            raise CommandError("--since must be before --until")
        try:
            account = accounts.find(book_id=book_of(options["book"]).pk, code=options["account"])
        except UnknownAccount as error:
            raise CommandError(str(error)) from None
        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bars:
            is_all = since is None and until is None
            total = proofs.receipts_count(account=account) if is_all else None
            task = bars.add_task("exporting", total=total)
            try:
                exported = proofs.export(
                    account=account,
                    folder=folder,
                    since=since,
                    until=until,
                    at=timezone.now(),
                    progress=lambda count: bars.advance(task, count),
                )
            except FileExistsError:
                raise CommandError(f"{folder} is there already: name a new folder") from None
            except OSError as error:
                raise CommandError(f"can't write {folder}: {error.strerror}") from None
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        "folder": str(folder),
                        "receipts": exported.lines_count,
                        "blocks": exported.blocks_count,
                        "heads": exported.heads_count,
                    }
                )
            )
        else:
            self.stdout.write(
                f"{exported.lines_count:,} receipts in {folder}, with {exported.blocks_count:,}"
                f" blocks and {exported.heads_count:,} published heads."
            )


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--{option} {text}: not a time such as 2026-06-01T09:00Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
