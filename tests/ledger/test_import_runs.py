"""`manage.py import_runs`: runs out of CSV files."""

import csv
import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from ledger import catalog, queries, usage
from ledger.catalog import NewRate
from ledger.models import Batch, Block, Run
from tests.ledger.builders import NOON, make_account, make_shop

AZURE_TRACE = Path(__file__).parents[3] / "shared/data/azure_llm_inference_2023_code.csv"


@pytest.fixture
def account_id(db):
    shop = make_shop(effective_at=NOON - timedelta(days=3650))
    catalog.create_meter(book_id=shop.book_id, code="input_tokens", name="Input tokens")
    catalog.create_meter(book_id=shop.book_id, code="output_tokens", name="Output tokens")
    catalog.publish_rate_card(
        book_id=shop.book_id,
        unit_id=shop.unit_id,
        code="standard",
        name="Standard",
        effective_at=NOON - timedelta(days=3000),
        rates=[
            NewRate(meter="input_tokens", microtokens=1_000),
            NewRate(meter="output_tokens", microtokens=3_000),
        ],
        at=NOON,
    )
    return make_account(shop)


def import_runs(path, *arguments):
    out = StringIO()
    call_command(
        "import_runs",
        str(path),
        "--value=account=acme",
        "--value=workflow=completion",
        "--value=engine=engine",
        "--column=occurred_at=TIMESTAMP",
        "--quantity=input_tokens=ContextTokens",
        "--quantity=output_tokens=GeneratedTokens",
        "--json",
        *arguments,
        stdout=out,
    )
    return json.loads(out.getvalue())


def write(path, lines, header="TIMESTAMP,ContextTokens,GeneratedTokens"):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


GOOD = "2023-11-16 18:17:03.9799600,4808,10"


def test_each_line_is_a_run_and_the_same_file_again_changes_nothing(account_id, tmp_path):
    file = write(tmp_path / "t.csv", [GOOD, GOOD, "2023-11-16 18:17:04,0,7"])
    result = import_runs(file)
    assert result["microtokens"] == 2 * (4808 * 1_000 + 10 * 3_000) + 7 * 3_000
    assert queries.runs_count(account_ids=[account_id]) == 3
    assert import_runs(file)["already_imported"] == 3
    assert queries.runs_count(account_ids=[account_id]) == 3


def test_an_interrupted_import_goes_on_where_it_stopped(account_id, tmp_path, monkeypatch):
    lines = [f"2023-11-16 18:00:00,{number},1" for number in range(2_500)]
    file = write(tmp_path / "t.csv", lines)

    class PowerCut(Exception):
        pass

    def fail_after_two_batches(count, told=[]):  # noqa: B006  what was told so far
        told.append(count)
        if len(told) == 2:
            raise PowerCut

    from zoneinfo import ZoneInfo

    from ledger import importing
    from ledger.importing import ColumnMapping
    from ledger.models import Book

    mapping = ColumnMapping(
        columns={"occurred_at": "TIMESTAMP"},
        values={"account": "acme", "workflow": "completion", "engine": "engine"},
        quantities={"input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"},
        time_zone=ZoneInfo("UTC"),
    )
    with pytest.raises(PowerCut):
        importing.import_file(
            path=file,
            mapping=mapping,
            book_id=Book.objects.get().pk,
            at=NOON,
            progress=fail_after_two_batches,
        )
    assert queries.runs_count(account_ids=[account_id]) == 2_000
    result = import_runs(file)
    assert (result["lines"], result["already_imported"]) == (2_500, 2_000)
    assert queries.runs_count(account_ids=[account_id]) == 2_500
    assert Batch.objects.count() == 3


def test_runs_that_came_by_another_way_do_not_hide_those_that_did_not(account_id, tmp_path):
    """The thousandth line was sent before: all others are imported all the same."""
    lines = [f"2023-11-16 18:00:00,{number},1,run-{number}" for number in range(1_500)]
    header = "TIMESTAMP,ContextTokens,GeneratedTokens,Id"
    file = write(tmp_path / "t.csv", lines, header=header)
    ahead = write(tmp_path / "ahead.csv", [lines[999]], header=header)
    import_runs(ahead, "--column=id=Id")
    import_runs(file, "--column=id=Id")
    assert queries.runs_count(account_ids=[account_id]) == 1_500


def test_lines_added_to_a_file_are_imported_and_none_of_the_others_again(account_id, tmp_path):
    lines = [f"2023-11-16 18:00:00,{number},1" for number in range(10)]
    import_runs(write(tmp_path / "t.csv", lines))
    import_runs(write(tmp_path / "t.csv", [*lines, "2023-11-16 18:00:00,99,1"]))
    assert queries.runs_count(account_ids=[account_id]) == 11


def test_a_line_that_was_changed_since_is_told_and_debited_as_it_was(account_id, tmp_path):
    import_runs(write(tmp_path / "t.csv", [GOOD, "2023-11-16 18:00:00,5,1"]))
    with pytest.raises(CommandError, match="another body"):
        import_runs(write(tmp_path / "t.csv", [GOOD, "2023-11-16 18:00:00,6,1"]))
    assert queries.runs_count(account_ids=[account_id]) == 2


def test_a_dry_run_takes_nothing(account_id, tmp_path):
    assert import_runs(write(tmp_path / "t.csv", [GOOD]), "--dry-run")["lines"] == 1
    assert not Batch.objects.exists()


BAD_FILES = [
    # lines, what the message names
    (["2023-11-16 18:17:04,-5,1"], "line 2, column 'ContextTokens'"),
    (["2023-11-16 18:17:04," + "9" * 5_000 + ",1"], "line 2, column 'ContextTokens'"),
    (["2023-11-16 18:17:04," + "9" * 20 + ",1"], "line 2"),
    (["2023-11-16 18:17:04,5.5,1"], "line 2, column 'ContextTokens'"),
    (["2023-11-16 18:17:04,5"], "line 2, column 'GeneratedTokens'"),
    ([GOOD, "soon,5,1"], "line 3, column 'TIMESTAMP'"),
    ([GOOD, "1923-11-16 18:17:04,5,1"], "line 3, occurred_at"),
    (['"2023-11-16 18:17:04,5,1'], "is not CSV"),
    ([], "has no lines"),
]


@pytest.mark.parametrize(("lines", "named"), BAD_FILES)
def test_a_file_with_a_bad_line_is_refused_by_line_and_column_and_nothing_is_taken(
    account_id, tmp_path, lines, named
):
    with pytest.raises(CommandError) as refusal:
        import_runs(write(tmp_path / "t.csv", lines))
    assert named in str(refusal.value)
    assert "nothing was imported" in str(refusal.value)
    assert not Batch.objects.exists()


def test_a_missing_column_is_named_with_those_that_are_there(account_id, tmp_path):
    file = write(tmp_path / "t.csv", ["2023-11-16 18:17:04,1"], header="TIMESTAMP,Context")
    with pytest.raises(CommandError, match=r"'ContextTokens'.*Context, TIMESTAMP"):
        import_runs(file)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--column=colour=Blue", "'colour' is none of"),
        ("--column=account=Customer", "both --column and --value fill: account"),
        ("--time-zone=Mars/Olympus", "not a zone"),
        ("--book=nobody", "there is no book 'nobody'"),
        ("--quantity=input_tokens", "write NAME=VALUE"),
    ],
)
def test_an_option_that_makes_no_sense_says_what_would(account_id, tmp_path, argument, said):
    with pytest.raises(CommandError, match=said):
        import_runs(write(tmp_path / "t.csv", [GOOD]), argument)


@pytest.mark.skipif(not AZURE_TRACE.exists(), reason="the trace is not beside this checkout")
def test_a_real_trace_is_debited_whole(account_id):
    with AZURE_TRACE.open() as file:
        rows = list(csv.DictReader(file))
    context = sum(int(row["ContextTokens"]) for row in rows)
    generated = sum(int(row["GeneratedTokens"]) for row in rows)
    result = import_runs(AZURE_TRACE)
    assert result["lines"] == len(rows) == Run.objects.count()
    debited = sum(Block.objects.values_list("microtokens", flat=True))
    assert debited == result["microtokens"] == context * 1_000 + generated * 3_000
    [used] = usage.by_workflow(
        account_id=account_id, from_at=NOON - timedelta(days=2000), until_at=NOON
    )
    assert (used.runs_count, used.microtokens) == (len(rows), debited)
