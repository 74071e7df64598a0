"""Whether stretches follow one another, from 0 to an end, seen without sorting them.

Each stretch begins where another ended. So the places where stretches begin are, with the end,
the very places where they end, with 0: as many of each. Every place stands for a random number,
and the sum of those for beginnings less those for ends must be what one stretch from 0 to the end
would leave. The numbers are drawn anew each time; that two different sets agree by chance is one
in 2⁶⁴.
"""

import secrets
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.packing import Integers


class Places:
    """So many lines, each to be covered by stretches without gap or overlap."""

    def __init__(self, lines_count: int) -> None:
        self._sums = np.zeros(lines_count, np.uint64)
        self._secret = np.uint64(secrets.randbits(64))

    def add(self, lines: npt.NDArray[Any], begins: Integers, ends: Integers) -> None:
        np.add.at(self._sums, lines, self._random(begins) - self._random(ends))

    def broken(self, ends: Integers) -> Integers:
        """The lines that are not covered from 0 to their end, each place of them once."""
        whole = self._random(np.zeros_like(ends)) - self._random(ends)
        return np.flatnonzero(self._sums != whole)

    def _random(self, places: Integers) -> npt.NDArray[np.uint64]:
        return random_numbers(self._secret, places)


def random_numbers(secret: np.uint64, *columns: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A random number for each row, always the same for the same one (splitmix64)."""
    mixed = np.full(len(columns[0]), secret)
    for column in columns:
        mixed = mixed + column.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
