"""`manage.py doctor`: is everything there, and if not, what to do."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config import doctor


class Command(BaseCommand):
    help = "Check every part of the installation and say how to mend it. Exit code 1: one fails."
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="findings as one JSON document")

    def handle(self, *, json: bool, **_: Any) -> None:
        findings = []
        for finding in doctor.examine():
            findings.append(finding)
            if not json:
                self._print(finding)
        well = all(finding.verdict != "fail" for finding in findings)
        if json:
            self.stdout.write(_document(findings, well=well))
        if not well:
            raise SystemExit(1)

    def _print(self, finding: doctor.Finding) -> None:
        style = {"ok": self.style.SUCCESS, "warn": self.style.WARNING, "fail": self.style.ERROR}
        verdict = style[finding.verdict](f"{finding.verdict:4}")
        self.stdout.write(f"{verdict}  {finding.subject:10}  {finding.text}")
        self.stdout.flush()


def _document(findings: list[doctor.Finding], *, well: bool) -> str:
    return json.dumps({"ok": well, "findings": [f.as_dict() for f in findings]}, indent=1)
