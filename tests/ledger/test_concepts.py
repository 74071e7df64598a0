"""docs/ledger/concepts.md: its examples work, and it names every invariant."""

import doctest
from pathlib import Path

from ledger.invariants import NAMES

PAGE = Path(__file__).parents[2] / "docs/ledger/concepts.md"


def test_the_examples_are_true(db: None) -> None:
    examples = doctest.DocTestParser().get_doctest(PAGE.read_text("utf-8"), {}, PAGE.name, None, 0)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(examples, out=told.append)
    assert not told, "".join(told)
    assert len(examples.examples) > 30


def test_every_invariant_is_said_in_words() -> None:
    _, _, listed = PAGE.read_text("utf-8").partition("## What must always hold")
    said = [line.removeprefix("- ") for line in listed.splitlines() if line.startswith("- ")]
    assert sorted(said) == sorted(NAMES)
