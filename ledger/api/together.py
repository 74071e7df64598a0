"""Requests that wait together are worked on together.

    deciding = Together(decide)     # decide: a list of items in, a list of answers out, in order
    answer = deciding(item)         # from any number of threads

Whoever comes first works on its own item at once. Those who come meanwhile wait; when the first is
done, one of them takes all that wait and works on them in one go: one transaction instead of many.
So nobody waits on purpose, and the busier it gets the more is done at a time.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import psycopg

Item = TypeVar("Item")
Answer = TypeVar("Answer")

ITEMS_MAX: Final = 100


def is_of_all(error: Exception) -> bool:
    """Whether the database is away, which is asked once for all; a statement that failed has an
    SQLSTATE, and may be the fault of one."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.sqlstate is None


class _Waiting(Generic[Item, Answer]):
    """One who waits: until its answer is there, or until it is its turn to work for all."""

    __slots__ = ("answer", "error", "item", "leads", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.answer: Answer
        self.error: BaseException | None = None
        self.leads = False
        self.turn = threading.Lock()
        self.turn.acquire()


class Together(Generic[Item, Answer]):
    """Calls that come while another is at work become one call of `work`.

    `work` gets at most `items_max` items, and answers them in their order. If it fails, all whom it
    worked for get its error: an error that belongs to one item must be that item's answer.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Answer]], *, items_max: int = ITEMS_MAX
    ) -> None:
        self._work = work
        self._items_max = items_max
        self._lock = threading.Lock()
        self._queue: list[_Waiting[Item, Answer]] = []
        self._is_led = False

    def __call__(self, item: Item) -> Answer:
        mine: _Waiting[Item, Answer] = _Waiting(item)
        with self._lock:
            self._queue.append(mine)
            mine.leads = not self._is_led
            self._is_led = True
        if not mine.leads:
            mine.turn.acquire()
        if mine.leads:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.answer

    def _lead(self) -> None:
        """Work for all who wait now; then let the next one lead."""
        with self._lock:
            group = self._queue[: self._items_max]
            del self._queue[: self._items_max]
        try:
            answers = self._work([one.item for one in group])
            for one, answer in zip(group, answers, strict=True):
                one.answer = answer
        except BaseException as error:  # noqa: BLE001  each of them raises it
            for one in group:
                one.error = error
        finally:
            self._hand_over()
            for one in group:
                if not one.leads:
                    one.turn.release()

    def _hand_over(self) -> None:
        with self._lock:
            if not self._queue:
                self._is_led = False
                return
            following = self._queue[0]
            following.leads = True
        following.turn.release()
