"""The database: SQLite in a file, or PostgreSQL, by the same SQL.

SQLite: write-ahead log, every commit durable, writers one after another. A transaction that writes takes the lock when it begins:
one that reads first and wants to write then would be refused if another wrote in between.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import QueuePool, create_engine, event, func, make_url, select
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, NotSupportedError, ProgrammingError, TimeoutError

from cowherd.service import counting
from cowherd.service.records.faults import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseFull,
    DatabaseUnavailable,
    DriverMissing,
    UnknownDatabase,
    Unstorable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

BUSY_SECONDS = 60
"""How long a transaction waits for the lock of the database, or for a connection."""

CONNECTIONS = 8

_SQLITE, _POSTGRESQL = "sqlite", "postgresql"
_WRITING = "cowherd_writing"
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "journal_size_limit = 67108864",
    "cache_size = -512",  # KiB for each connection: the kernel caches the file for all of them, and pages are found as fast
)
_BUSY = ("database is locked", "database table is locked", "canceling statement due to lock timeout")
_MISTAKES = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
_FULL = ("database or disk is full", "could not extend file", "No space left on device")


class Database:
    """A database that is open: `read` and `write` give connections to it."""

    def __init__(self, engine: Engine):
        self.engine = engine
        # SQLite's own waiting polls, and may starve a writer; among the threads of one process a lock is handed on at once.
        self._turn = threading.Lock() if engine.dialect.name == _SQLITE else None
        # PostgreSQL shows each statement another state unless it is told; SQLite never does.
        self._reading = engine if self._turn else engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Gives a connection that sees one state of the database. Raises `DatabaseUnavailable`."""
        began = perf_counter()
        with _told(), self._reading.connect() as connection, connection.begin():
            counting.observe(counting.WAITED, perf_counter() - began, "read")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Gives a connection whose changes are stored, durably, when the block ends, and given up if it raises.

        Raises `DatabaseUnavailable`; `DatabaseBusy` if another had the lock for `BUSY_SECONDS`, `DatabaseFull`.
        """
        began = perf_counter()
        with _told(), ExitStack() as stack:
            if self._turn is not None:
                if not self._turn.acquire(timeout=BUSY_SECONDS):
                    raise DatabaseBusy(f"another transaction has been writing for {BUSY_SECONDS} seconds")
                stack.callback(self._turn.release)
            connection = stack.enter_context(self.engine.connect()).execution_options(**{_WRITING: True})
            stack.enter_context(connection.begin())
            counting.observe(counting.WAITED, perf_counter() - began, "write")
            yield connection

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Opens the database at `url`: `sqlite:////var/lib/cowherd/records.db`, or `postgresql://user@host/name`.

    SQLite's file is made if it isn't there; the tables are not: see `cowherd.service.records.migration`. Nothing connects yet.
    Raises `UnknownDatabase`, `DriverMissing`.
    """
    address = make_url(url)
    kind = address.get_backend_name()
    if kind == _SQLITE and address.database:
        return Database(_open_sqlite(address))
    if kind == _POSTGRESQL:
        return Database(_open_postgresql(address))
    raise UnknownDatabase(kind)


def take_turn(connection: Connection, at: str) -> None:
    """Waits until no other transaction has a turn at the same, and has it until its own transaction ends.

    In SQLite one writes at a time anyway.
    """
    if connection.dialect.name == _POSTGRESQL:
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(at))))


def _open_sqlite(address: URL) -> Engine:
    engine = create_engine(address, connect_args={"timeout": BUSY_SECONDS}, **_common())
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_postgresql(address: URL) -> Engine:
    waiting = f"-c lock_timeout={BUSY_SECONDS}s"
    if find_spec("psycopg") is None:
        raise DriverMissing
    return create_engine(address.set(drivername="postgresql+psycopg"), connect_args={"options": waiting}, **_common())


def _common() -> dict[str, Any]:
    return {
        "poolclass": QueuePool,
        "pool_size": CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": BUSY_SECONDS,
        "json_serializer": _to_json,
        "json_deserializer": _from_json,
    }


def _to_json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError as error:
        raise Unstorable("document", "it holds half of a surrogate pair") from error


def _from_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DatabaseDamaged(f"a document in it makes no sense: {error}") from error


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # Python's own module would begin transactions when it thinks best
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def _told() -> Iterator[None]:
    """Raises an error of ours for those of the database that are not a mistake of ours."""
    try:
        yield
    except UnicodeDecodeError as error:  # of SQLite's own words: they quote what it can't make sense of
        raise DatabaseDamaged("it says what is no text") from error
    except TimeoutError as error:
        raise DatabaseBusy(f"all connections have been in use for {BUSY_SECONDS} seconds") from error
    except DatabaseError as error:
        if isinstance(error, _MISTAKES):
            raise
        reason = str(error.orig).strip()
        kinds = ((DatabaseBusy, _BUSY), (DatabaseFull, _FULL))
        kind = next((kind for kind, words in kinds if any(word in reason for word in words)), DatabaseUnavailable)
        raise kind(reason) from error
