"""One walk over all runs and entries, for every rule that must see each of them.

Reading is most of the work of such a rule, so they read together.
"""

from typing import Final

import numpy as np
from django.db import transaction

from ledger import sql
from ledger.invariants import adding, movements, numbers, sealed, worth
from ledger.invariants.adding import Added
from ledger.invariants.ahead import exported_snapshot, read_ahead
from ledger.invariants.movements import Movements
from ledger.invariants.numbers import Numbers
from ledger.invariants.rows import BrokenRows, Row
from ledger.invariants.scanning import Progress, stretches
from ledger.invariants.sealed import Receipts
from ledger.invariants.worth import Worth

NAMES: Final = (
    *movements.NAMES,
    *numbers.NAMES,
    *sealed.NAMES,
    *adding.NAMES,
    *worth.NAMES,
)

# What entries take of the whole walk: they are few, and cheap.
_SHARE_OF_ENTRIES: Final = 0.05


def broken(
    *, progress: Progress = lambda share: None, two_at_once: bool = False
) -> dict[str, list[Row]]:
    """The rules of the walk that do not hold, with the first rows that break each.

    With `two_at_once` runs are read while those before are looked at.
    """
    found = BrokenRows()
    with transaction.atomic():
        sql.see_one_state()
        moved, numbered = Movements(found), Numbers(found)
        receipts, added, worths = Receipts(found), Added(found), Worth(found)
        for rows in stretches(
            "ledger_entry",
            movements.ENTRY_COLUMNS | worth.ENTRY_COLUMNS,
            where="kind <> 'grant'",
            progress=lambda share: progress(share * _SHARE_OF_ENTRIES),
        ):
            moved.take(rows, rows["is_debit"] == 1)
            worths.take_slices(rows[rows["is_debit"] == 1])
        runs = stretches(
            "ledger_run",
            movements.RUN_COLUMNS | sealed.RUN_COLUMNS | worth.RUN_COLUMNS,
            progress=lambda share: progress(_SHARE_OF_ENTRIES + share * (1 - _SHARE_OF_ENTRIES)),
        )
        for rows in read_ahead(runs, snapshot=exported_snapshot()) if two_at_once else runs:
            of_one_lot = rows[rows["slices_count"] == 1]
            moved.take(of_one_lot, np.ones(len(of_one_lot), np.bool_))
            numbered.take(rows)
            receipts.take(rows)
            added.take(rows)
            worths.take_runs(rows)
        for rules in (moved, numbered, receipts, added):
            rules.judge()
    return found.of(NAMES)
