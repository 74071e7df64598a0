"""Statements in PostgreSQL's own protocol: prepared once a connection, many in one round trip.

What runs for every block, acceptance and hold goes this way. psycopg would do the same, for values
and statements of any kind; for a block of a hundred runs that takes as long as PostgreSQL's work.

Bytes and packed arrays go as they are, everything else as text: PostgreSQL knows the type of a
parameter from where it stands. Rows come in binary form.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from select import POLLIN, POLLOUT, poll
from socket import AF_UNIX, SO_SNDBUF, SOL_SOCKET, socket
from typing import Any, Final, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from ledger.packing import PackedArray

Connection = psycopg.Connection[Any]

_PARAMETER: Final = re.compile(r"%\((\w+)\)s|%%")
_ANY_TYPE: Final = 0  # PostgreSQL finds out which
_SEND_BYTES: Final = 4_000_000  # as much as the system allows: a block's runs
# PostgreSQL reads these as Python writes them.
_AS_THEY_ARE_WRITTEN: Final = (int, str, datetime, UUID)

_UNNAMED: Final = ""
_PREPARED_ONCE: Final = "once"
# What is said if what was prepared is not there, is there twice, or no longer fits its tables.
_IS_ANOTHER: Final = ("26000", "42P05", "0A000")

# The statements that are prepared on a connection, by name.
_prepared: Final[WeakKeyDictionary[Connection, set[str]]] = WeakKeyDictionary()


class Statement(NamedTuple):
    """A statement of the ledger, and its parameters by name."""

    name: str
    text: str
    parameters: Mapping[str, Any]


class _Value(NamedTuple):
    packed: bytes | None
    format: Format
    type_oid: int


def run(
    connection: Connection, statements: Sequence[Statement], *, commits: bool = False
) -> list[PGresult]:
    """Run statements in their order, in one round trip; the result of each.

    Begins a transaction if there is none and the connection does not commit by itself; commits it
    after the last if `commits`. If one fails, those after it do not run; raises what it says.
    """
    with asking(connection, statements, commits=commits) as results:
        return results()


@contextmanager
def asking(
    connection: Connection, statements: Sequence[Statement], *, commits: bool = False
) -> Iterator[Callable[[], list[PGresult]]]:
    """As `run`, with something to do until the results are asked for: once, and within it."""
    asked = _Asked(connection, statements, commits=commits)
    try:
        yield asked.results
        assert asked.is_answered, "results are asked for"
    except BaseException:
        if not asked.is_answered:
            connection.close()
        raise


class _Asked:
    """Statements that are sent, and their results once they are read."""

    def __init__(
        self, connection: Connection, statements: Sequence[Statement], *, commits: bool
    ) -> None:
        self.is_answered = False
        self._connection = connection
        self._known = _known(connection)
        pgconn = connection.pgconn
        assert connection.isolation_level is None, "BEGIN is for the default level"
        values = [_values(connection, one) for one in statements]
        self._begins = (
            not connection.autocommit and pgconn.transaction_status == TransactionStatus.IDLE
        )
        # By what is sent: the statement that it prepares.
        self._prepared = [""] * self._begins
        self._statements_count = len(statements)
        with _left_whole(connection):
            pgconn.enter_pipeline_mode()
            if self._begins:
                pgconn.send_query_params(b"BEGIN", None)
            for statement, of_statement in zip(statements, values, strict=True):
                self._send(pgconn, statement, of_statement)
            if commits:
                send_commit(pgconn)
                self._prepared.append("")
            pgconn.pipeline_sync()
            pgconn.flush()

    def _send(self, pgconn: PGconn, statement: Statement, values: Sequence[_Value]) -> None:
        # Where a pooler can't keep statements, each is prepared for once, without a name.
        keeps = self._connection.prepare_threshold is not None
        name = statement.name if keeps else _UNNAMED
        if name not in self._known and (name not in self._prepared or not keeps):
            _send_prepare(pgconn, name, statement.text, values)
            self._prepared.append(name if keeps else _PREPARED_ONCE)
        send(pgconn, name, values)
        self._prepared.append("")

    def results(self) -> list[PGresult]:
        pgconn = self._connection.pgconn
        with _left_whole(self._connection):
            answers = _answers(pgconn)
            if pgconn.status == ConnStatus.OK:
                pgconn.exit_pipeline_mode()
        self.is_answered = True
        pairs = list(zip(self._prepared, answers, strict=False))
        self._known |= {
            name
            for name, answer in pairs
            if name not in ("", _PREPARED_ONCE) and answer.status == ExecStatus.COMMAND_OK
        }
        _raise_error(self._connection, answers)
        own = [answer for name, answer in pairs[self._begins :] if not name]
        return own[: self._statements_count]


def _known(connection: Connection) -> set[str]:
    """The statements that are prepared on it. A connection that is new gets room to send."""
    if connection not in _prepared:
        with socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
            if duplicate.family == AF_UNIX:  # of others the system finds out what is best
                duplicate.setsockopt(SOL_SOCKET, SO_SNDBUF, _SEND_BYTES)
        _prepared[connection] = set()
    return _prepared[connection]


def rows(connection: Connection, result: PGresult) -> list[tuple[Any, ...]]:
    """The rows of a result as Python's objects; none if the statement returns none."""
    if result.status != ExecStatus.TUPLES_OK:
        return []
    transformer = Transformer(connection)
    transformer.set_pgresult(result)
    return list(transformer.load_rows(0, result.ntuples, tuple))


class Copy:
    """A COPY … FROM STDIN that goes on."""

    def __init__(self, pgconn: PGconn) -> None:
        self.rows_count = 0  # at the end
        self._pgconn = pgconn

    def give(self, data: bytes) -> None:
        """Hand over some bytes. They are not waited for."""
        give(self._pgconn, data)

    def go_on(self) -> None:
        """Send what there is room for: for whoever does something else meanwhile."""
        self._pgconn.flush()


@contextmanager
def copying(connection: Connection, statement: str) -> Iterator[Copy]:
    """COPY … FROM STDIN, in a transaction. All that was given is copied at the end."""
    pgconn = connection.pgconn
    assert pgconn.transaction_status == TransactionStatus.INTRANS
    with _left_whole(connection):
        pgconn.send_query(statement.encode())
        answers = _answers(pgconn)
    _raise_error(connection, answers)
    copy = Copy(pgconn)
    try:
        yield copy
    except BaseException:
        _end_copy(connection, b"given up")
        raise
    answers = _end_copy(connection, None)
    _raise_error(connection, answers)
    copy.rows_count = answers[0].command_tuples or 0


def _end_copy(connection: Connection, reason: bytes | None) -> list[PGresult]:
    with _left_whole(connection):
        if connection.pgconn.put_copy_end(reason) != 1:
            raise psycopg.OperationalError("the end of what is copied can't be sent")
        return _answers(connection.pgconn)


# All that changes something is sent by these: tests that kill a worker between any two count them.


def send(pgconn: PGconn, name: str, values: Sequence[_Value]) -> None:
    """Have a prepared statement run."""
    packed = [value.packed for value in values]
    formats = [value.format for value in values]
    pgconn.send_query_prepared(name.encode(), packed, formats, Format.BINARY)


def send_commit(pgconn: PGconn) -> None:
    pgconn.send_query_params(b"COMMIT", None)


def give(pgconn: PGconn, data: bytes) -> None:
    """Have some bytes copied."""
    if pgconn.put_copy_data(data) != 1:  # there is no memory for them
        raise psycopg.OperationalError("what is to be copied can't be sent")


def _send_prepare(pgconn: PGconn, name: str, text: str, values: Sequence[_Value]) -> None:
    numbered, _ = _numbered(text)
    pgconn.send_prepare(name.encode(), numbered, [value.type_oid for value in values])


@cache
def _numbered(text: str) -> tuple[bytes, list[str]]:
    """A statement with $1, $2 … for %(name)s, and the names in that order."""
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "%"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(numbered, text).encode(), names


def _values(connection: Connection, statement: Statement) -> list[_Value]:
    _, names = _numbered(statement.text)
    return [_value(connection, statement.parameters[name]) for name in names]


def _value(connection: Connection, value: object) -> _Value:
    if isinstance(value, _AS_THEY_ARE_WRITTEN):
        if isinstance(value, str) and "\x00" in value:
            raise psycopg.DataError("PostgreSQL's text has no NUL")
        return _Value(str(value).encode(), Format.TEXT, _ANY_TYPE)
    if isinstance(value, PackedArray):
        return _Value(value.packed, Format.BINARY, value.array_oid)
    if isinstance(value, bytes):
        return _Value(value, Format.BINARY, _ANY_TYPE)
    if value is None:
        return _Value(None, Format.TEXT, _ANY_TYPE)
    dumped = Transformer(connection).get_dumper(value, PyFormat.TEXT).dump(value)
    return _Value(None if dumped is None else bytes(dumped), Format.TEXT, _ANY_TYPE)


@contextmanager
def _left_whole(connection: Connection) -> Iterator[None]:
    """Whoever is interrupted with answers still to come leaves no connection to anybody else."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _answers(pgconn: PGconn) -> list[PGresult]:
    """Everything that PostgreSQL says to what was sent."""
    answers: list[PGresult] = []
    in_pipeline = pgconn.pipeline_status != PipelineStatus.OFF
    try:
        while True:
            answer = _next(pgconn)
            if answer is None:  # the end of one statement's
                if in_pipeline and pgconn.status == ConnStatus.OK:
                    continue
                return answers
            status = answer.status
            if status == ExecStatus.PIPELINE_SYNC:
                return answers
            answers.append(answer)
            if status == ExecStatus.COPY_IN:
                return answers
    except psycopg.OperationalError:
        # If it said why it would end the connection, that says more.
        if _failed(answers) is None:
            raise
        return answers


def _next(pgconn: PGconn) -> PGresult | None:
    """The next result, or None at the end of a statement's; sends what is still to be sent."""
    waits_to_send = pgconn.flush()
    while waits_to_send or pgconn.is_busy():
        ready = poll()
        ready.register(pgconn.socket, POLLIN | (POLLOUT if waits_to_send else 0))
        ready.poll()
        pgconn.consume_input()
        waits_to_send = pgconn.flush()
    return pgconn.get_result()


def _failed(answers: Sequence[PGresult]) -> PGresult | None:
    return next((one for one in answers if one.status == ExecStatus.FATAL_ERROR), None)


def _raise_error(connection: Connection, answers: Sequence[PGresult]) -> None:
    failed = _failed(answers)
    if failed is not None:
        error = error_from_result(failed, connection.info.encoding)
        if error.sqlstate in _IS_ANOTHER:
            connection.close()  # the next one prepares anew
        raise error
    if connection.pgconn.status == ConnStatus.BAD:
        raise psycopg.OperationalError("the connection is lost")
