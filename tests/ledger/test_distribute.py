"""manage.py distribute: every hot table, after what it refers to, all of them colocated."""

import json
import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from ledger import distribution
from tests.ledger.test_catalog import rows, sharded_tables

pytestmark = pytest.mark.django_db


def told(*arguments: str) -> str:
    output = StringIO()
    call_command("distribute", *arguments, stdout=output)
    return output.getvalue()


def test_every_hot_table_is_distributed_by_shard_beside_the_accounts() -> None:
    lines = told().splitlines()
    assert lines[0] == "SET citus.enable_unsafe_triggers TO on;"
    form = re.compile(
        r"SELECT create_distributed_table\('(\w+)', 'shard', colocate_with => '(\w+)'\);"
    )
    found = [match.groups() for line in lines[1:] if (match := form.fullmatch(line))]
    assert len(found) == len(lines) - 1
    assert {table for table, _ in found} == sharded_tables()
    assert found[0] == ("ledger_account", "none")
    assert {beside for _, beside in found[1:]} == {"ledger_account"}


def test_a_table_comes_after_those_it_refers_to() -> None:
    order = distribution.hot_tables()
    references = rows(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'f' AND conrelid::regclass::text LIKE 'ledger\\_%'"
    )
    between = [(a, b) for a, b in references if a in order and b in order and a != b]
    assert between
    assert [(a, b) for a, b in between if order.index(a) < order.index(b)] == []


def test_machines_read_it_as_json() -> None:
    answer = json.loads(told("--json"))
    assert answer["applied"] is False
    assert len(answer["statements"]) == len(sharded_tables()) + 1


def test_without_citus_nothing_is_applied_and_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="CREATE EXTENSION citus"):
        told("--apply")
