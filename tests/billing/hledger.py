"""hledger's journal format, as its manual describes it, as far as we write it.

https://hledger.org/hledger.html#journal: hledger itself is a binary that can't be had everywhere;
this reads the same grammar, refuses what it does not know, and checks what hledger would: that each
transaction balances, that accounts and commodities are declared, and balance assertions.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

_COMMENT = r"(?:  ;(?P<comment>.*))?"
_AMOUNT = r"(?P<amount>-?\d+(?:\.\d+)?) (?P<commodity>[A-Z]{3})"
_LINES = {
    "comment": re.compile(r"; .*"),
    "commodity": re.compile(r"commodity 1000\.(?P<places>0*) (?P<commodity>[A-Z]{3})"),
    # An account's name may have single spaces; two, or the line's end, end it.
    "account": re.compile(rf"account (?P<name>[^\s;](?:[^\s;]| (?! ))*?){_COMMENT}"),
    "head": re.compile(
        rf"(?P<date>\d{{4}}-\d\d-\d\d) \* (?:\((?P<code>[^()]+)\) )?(?P<text>[^;]+?){_COMMENT}"
    ),
    "tag": re.compile(r"    ; (?P<tag>\w+):(?P<value>[^,]*)"),
    "posting": re.compile(
        rf"    (?P<name>[A-Z][\w:-]*) {{2,}}{_AMOUNT}"
        r"(?: = (?P<asserted>-?\d+(?:\.\d+)?) (?P<of>[A-Z]{3}))?"
    ),
}


@dataclass
class Read:
    transactions: int = 0
    balances: dict[tuple[str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    asserted: int = 0


def read(text: str) -> Read:
    """What a journal says. AssertionError if hledger would refuse it."""
    found = Read()
    accounts: set[str] = set()
    last = date.min
    for block in text.strip("\n").split("\n\n"):
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for line in block.split("\n"):
            kind, match = _line(line)
            if kind == "account":
                accounts.add(match["name"])
            elif kind == "head":
                assert date.fromisoformat(match["date"]) >= last
                last = date.fromisoformat(match["date"])
                found.transactions += 1
            elif kind == "posting":
                assert match["name"] in accounts, f"{match['name']} is not declared"
                amount = Decimal(match["amount"])
                sums[match["commodity"]] += amount
                found.balances[match["name"], match["commodity"]] += amount
                if match["asserted"]:
                    found.asserted += 1
                    balance = found.balances[match["name"], match["of"]]
                    assert balance == Decimal(match["asserted"]), line
        assert not any(sums.values()), f"does not balance: {block}"
    return found


def _line(line: str) -> tuple[str, re.Match[str]]:
    for kind, pattern in _LINES.items():
        if match := pattern.fullmatch(line):
            return kind, match
    raise AssertionError(f"hledger's manual knows no such line: {line!r}")
