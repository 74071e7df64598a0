"""Rules of style that no linter knows."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants import MUTANTS

ROOT = Path(__file__).parent.parent
APPS = ("config", "ledger", "billing")
MODULES = [
    path
    for folder in (*APPS, "tests", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts
]
STATEMENTS = sorted(ROOT.glob("*/sql/*.sql"))
MODULE_LINES_MAX = 500
# Given to people who have nothing else of ours: it has to be one file.
STANDS_ALONE = {ROOT / "ledger/verify_receipts.py": 750}
# Modules whose functions change the ledger: each takes the time, and says what it does.
OPERATIONS = [
    ROOT / "ledger" / f"{name}.py"
    for name in (
        "corrections",
        "debiting",
        "endings",
        "grants",
        "holds",
        "intake",
        "limits",
        "parking",
        "parts",
        "rerating",
        "retakes",
        "reviews",
    )
]
WORDS_THAT_SAY_NOTHING = {"utils", "helpers", "common", "services", "misc"}
# What a clone does not have, and what is left to do: neither belongs in the code.
UNFINISHED = re.compile(r"(#|--|<!--).*\b(TODO|FIXME|XXX)\b")
OUTSIDE = re.compile(r"\.\./shared(?!/data)|/work/|/root/|/home/\w")
REPLACES_CODE = re.compile(r"unittest\.mock|MagicMock|\bmocker\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked_files() -> list[Path]:
    """What is committed, or would be; without git, every file of the known folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    return [*MODULES, *STATEMENTS, *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.*")]


def public_functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= STANDS_ALONE.get(path, MODULE_LINES_MAX)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_called_after_a_subject(path: Path) -> None:
    assert not WORDS_THAT_SAY_NOTHING.intersection(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.parent in (ROOT / "ledger", ROOT / "billing")],
    ids=name,
)
def test_a_module_of_an_app_says_what_it_is_about(path: Path) -> None:
    if path.name not in ("__init__.py", "apps.py"):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


@pytest.mark.parametrize("path", OPERATIONS, ids=name)
def test_an_operation_takes_keywords_and_says_what_it_does(path: Path) -> None:
    for function in public_functions(path):
        arguments = function.args
        if "at" in {argument.arg for argument in arguments.kwonlyargs}:
            assert not arguments.args, f"{function.name} takes more than keywords"
            assert ast.get_docstring(function), f"{function.name} says nothing"


@pytest.mark.parametrize("path", STATEMENTS, ids=name)
def test_a_statement_has_a_header_and_a_caller(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("-- ")
    assert "\n-- locks " in text
    assert "\n-- parameters " in text
    assert any(f'"{path.stem}"' in module.read_text("utf-8") for module in MODULES)


@pytest.mark.parametrize("path", STATEMENTS, ids=name)
def test_a_header_names_the_statements_parameters(path: Path) -> None:
    header: list[str] = []
    body: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        (body if body or not line.startswith("--") else header).append(line)
    used = set(re.findall(r"%\((\w+)\)s", "\n".join(body)))
    described = set(re.findall(r"\w+", "\n".join(header)))
    assert used <= described, f"the header does not name {sorted(used - described)}"


def test_nothing_is_left_to_do_and_nothing_outside_is_named() -> None:
    this = Path(__file__)
    texts = {".py", ".sql", ".md", ".html", ".toml", ".yaml", ".css", ""}
    found = []
    for path in tracked_files():
        if path == this or path.suffix not in texts or "static" in path.parts:
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if UNFINISHED.search(line) or OUTSIDE.search(line):
                found.append(f"{name(path)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_no_code_of_ours_is_replaced_in_tests() -> None:
    this = Path(__file__)
    tests = [path for path in MODULES if "tests" in path.parts and path != this]
    assert [name(path) for path in tests if REPLACES_CODE.search(path.read_text("utf-8"))] == []


def test_every_deliberate_fault_can_still_be_put_in() -> None:
    stale = [
        (file, text) for file, text, _ in MUTANTS if text not in (ROOT / file).read_text("utf-8")
    ]
    assert stale == []
