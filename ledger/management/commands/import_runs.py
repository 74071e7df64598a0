"""Import runs from a CSV file."""

import json
from datetime import tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from ledger import importing
from ledger.importing import REQUIRED_FIELDS, RUN_FIELDS, ColumnMapping, InvalidFile
from ledger.management.books import book_of
from ledger.management.examples import CommandWithExamples
from ledger.units import tokens_text

EXAMPLE = """
example:
  manage.py import_runs trace.csv --book demo \\
      --value account=acme --value workflow=code-completion --value engine=gpt-4o \\
      --column occurred_at=TIMESTAMP \\
      --quantity input_tokens=ContextTokens --quantity output_tokens=GeneratedTokens

Each line is one run. The whole file is checked before its first run is taken; --dry-run ends
there. An import that was interrupted goes on where it stopped: call it again. The same file
again changes nothing; lines added at its end are imported. Without --column id=... a line is
known by its number, so lines must not move.
"""


class Command(CommandWithExamples):
    help = "Import runs from a CSV file, through the same path as the API's."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        fields = ", ".join(RUN_FIELDS)
        parser.add_argument("file", type=Path)
        parser.add_argument("--book", help="the vendor's code; not needed if there is only one")
        parser.add_argument(
            "--column",
            action="append",
            default=[],
            metavar="FIELD=COLUMN",
            help=f"which column fills a field: {fields}",
        )
        parser.add_argument(
            "--value",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="a field that is the same on every line",
        )
        parser.add_argument(
            "--quantity",
            action="append",
            default=[],
            metavar="METER=COLUMN",
            help="which column holds a meter's quantity",
        )
        parser.add_argument(
            "--time-zone", default="UTC", help="of times that name none (default: UTC)"
        )
        parser.add_argument("--dry-run", action="store_true", help="check the file, take nothing")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        if not path.is_file():
            raise CommandError(f"there is no file {path}")
        book = book_of(options["book"])
        mapping = _mapping(options)
        at = timezone.now()
        given: dict[str, Any] = {
            "path": path,
            "mapping": mapping,
            "book_id": book.pk,
            "at": at,
        }
        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bars:
            taken = "nothing was imported"
            try:
                checking = bars.add_task("checking", total=None)
                lines = importing.check_file(
                    **given, progress=lambda count: bars.advance(checking, count)
                )
                bars.update(checking, total=lines)
                if options["dry_run"]:
                    return self._tell(options, {"lines": lines, "dry_run": True})
                taken = "the file changed while it was imported; what was read before stands"
                importing_ = bars.add_task("importing", total=lines)
                imported = importing.import_file(
                    **given, progress=lambda count: bars.advance(importing_, count)
                )
            except InvalidFile as error:
                raise CommandError(f"{taken}:\n{error}") from None
        self._tell(
            options,
            {
                "lines": imported.lines_count,
                "already_imported": imported.already_count,
                "unpriced": imported.unpriced_count,
                "conflicts": imported.conflicts_count,
                "microtokens": imported.microtokens,
            },
        )
        if imported.conflicts_count:
            raise CommandError(
                "some lines name runs that are there with another body: they were left out"
            )
        return None

    def _tell(self, options: dict[str, Any], result: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(result))
        elif options["dry_run"]:
            self.stdout.write(f"{result['lines']:,} lines can be imported; nothing was taken")
        else:
            self.stdout.write(
                f"{result['lines']:,} lines, {result['already_imported']:,} of them imported"
                f" before; {tokens_text(result['microtokens'])} tokens debited now"
            )
            if result["unpriced"]:
                self.stdout.write(f"{result['unpriced']:,} runs wait for a rate")


def _mapping(options: dict[str, Any]) -> ColumnMapping:
    columns = _pairs("--column", options["column"], RUN_FIELDS)
    values = _pairs("--value", options["value"], RUN_FIELDS)
    quantities = _pairs("--quantity", options["quantity"], None)
    missing = [name for name in REQUIRED_FIELDS if name not in columns and name not in values]
    if missing:
        raise CommandError(f"say with --column or --value what fills: {', '.join(missing)}")
    if both := sorted(columns.keys() & values.keys()):
        raise CommandError(f"both --column and --value fill: {', '.join(both)}")
    if not quantities:
        raise CommandError("say with --quantity METER=COLUMN what is measured")
    return ColumnMapping(
        columns=columns,
        values=values,
        quantities=quantities,
        time_zone=_time_zone(options["time_zone"]),
    )


def _pairs(option: str, given: list[str], allowed: tuple[str, ...] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise CommandError(f"{option} {text}: write NAME=VALUE")
        if allowed is not None and name not in allowed:
            raise CommandError(f"{option} {text}: {name!r} is none of {', '.join(allowed)}")
        pairs[name] = value
    return pairs


def _time_zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise CommandError(f"--time-zone {name}: not a zone such as Europe/Paris") from None
