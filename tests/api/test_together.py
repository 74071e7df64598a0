"""Requests that wait together are worked on together, and each gets its own answer."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.api.together import Together


def test_each_gets_its_own_answer_and_those_who_wait_share_a_turn():
    sizes: list[int] = []
    first_is_at_work, others_wait = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        if len(sizes) == 1:
            first_is_at_work.set()
            assert others_wait.wait(10)
        return [item * item for item in items]

    together = Together(work, items_max=6)
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(together, 0)
        assert first_is_at_work.wait(10)
        others = [pool.submit(together, number) for number in range(1, 11)]
        while len(together._queue) < 10:
            threading.Event().wait(0.01)
        others_wait.set()
        assert [one.result(10) for one in (first, *others)] == [n * n for n in range(11)]
    assert sizes == [1, 6, 4]


def test_an_error_is_raised_in_all_whom_it_concerns_and_the_next_go_on():
    def work(items: Sequence[int]) -> list[int]:
        if 0 in items:
            raise ZeroDivisionError
        return [12 // item for item in items]

    together = Together(work)
    with pytest.raises(ZeroDivisionError):
        together(0)
    assert together(4) == 3


def test_a_thousand_at_once_get_a_thousand_answers():
    def work(items: Sequence[int]) -> list[int]:
        return [item + 1 for item in items]

    together = Together(work, items_max=7)
    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(together, range(1_000))) == list(range(1, 1_001))
