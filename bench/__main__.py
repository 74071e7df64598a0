"""`python -m bench`: measure, print a table, write bench/latest.json."""

import argparse
import os
import sys
from collections.abc import Sequence

ROWS = ("debit", "backlog", "accept", "http", "holds", "check", "verify", "usage", "size")
# Of several minutes each, or simulated: only when they are named.
MORE_ROWS = ("grown", "scale", "closing", "books")
DESCRIPTION = """
Measure the ledger beside the limits of this machine, in a database of the bench's own
(its name ends in _bench, on the server of DATABASE_URL or the embedded one; dropped at the end).
Exits with 1 if a figure is under its bar.
"""
EXAMPLE = "example: python -m bench debit --batches 10 --repetitions 1"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench", description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"{', '.join(ROWS)}; none: all of these; also {', '.join(MORE_ROWS)}",
    )
    parser.add_argument("--batches", type=_count, default=20, help="in a repetition (default 20)")
    parser.add_argument("--repetitions", type=_count, default=5, help="for the median (default 5)")
    options = parser.parse_args(arguments)
    known = (*ROWS, *MORE_ROWS)
    if unknown := sorted(set(options.rows) - set(known)):
        parser.error(f"there is no row {unknown[0]!r}: choose from {', '.join(known)}")
    return _run(options.rows or ROWS, batches=options.batches, repetitions=options.repetitions)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _run(names: Sequence[str], *, batches: int, repetitions: int) -> int:
    import gc

    import django

    os.environ.setdefault("RUNLEDGER_DEVELOPMENT", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()

    from bench import (
        accept,
        backlog,
        books,
        check,
        closing,
        database,
        debit,
        figures,
        grown,
        holds,
        http,
        scale,
        size,
        usage,
        verify,
    )  # fmt: skip

    gc.freeze()  # as a worker does when it has loaded its code
    measures = {
        "debit": debit.measure,
        "backlog": backlog.measure,
        "accept": accept.measure,
        "http": http.measure,
        "holds": holds.measure,
        "check": check.measure,
        "verify": verify.measure,
        "usage": usage.measure,
        "size": size.measure,
        "grown": grown.measure,
        "scale": scale.measure,
        "closing": closing.measure,
        "books": books.measure,
    }
    found: list[figures.Figure] = []
    with database.own_database():
        if not database.is_durable():
            print("fsync or synchronous_commit is off: a commit would not be durable")
            return 1
        for name in names:
            for figure in measures[name](batches=batches, repetitions=repetitions):
                print(f"{figure.name}: {figure.value:,.0f} {figure.unit}", file=sys.stderr)
                found.append(figure)
    figures.show(found)
    figures.write(found)
    return 0 if all(figure.holds for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
