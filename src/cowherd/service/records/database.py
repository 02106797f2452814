"""The database: SQLite in a file, or PostgreSQL, by the same SQL.

In both, those who write do so one after another, and what they read until then stays so: a transaction that writes takes a lock
when it begins. In SQLite one that reads first and wants to write then would be refused if another wrote in between, and in
PostgreSQL two would write by what both had read. Who only reads waits for nobody. SQLite has a write-ahead log; every commit is
durable.
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
    EncodingDiffers,
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
_WRITERS = select(func.pg_advisory_xact_lock(int.from_bytes(b"cowherd")))
"""Has PostgreSQL wait until no other transaction of the service's writes, and have them wait until this one ends."""
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "journal_size_limit = 67108864",
    "cache_size = -512",  # KiB for each connection: the kernel caches the file for all of them, and pages are found as fast
)
_MISTAKES = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
_NOT_ALLOWED = "42501"
# SQLite is known by its words, and PostgreSQL, which may speak any language, by "Appendix A. PostgreSQL Error Codes".
_BUSY = ("database is locked", "database table is locked", "55P03")
_FULL = ("database or disk is full", "53100")
# A host that is gone says nothing: without these the server would keep its lock, or a request its connection, for hours.
_SERVER_NOTICES = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
_CLIENT_NOTICES = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


class Database:
    """A database that is open: `read` and `write` give connections to it."""

    def __init__(self, engine: Engine):
        self.engine = engine
        # SQLite's own waiting polls, and may starve a writer; those who wait in PostgreSQL keep a connection from others. Among
        # the threads of one process a lock is handed on at once, and costs nothing.
        self._turn = threading.Lock()
        self._is_shared = engine.dialect.name == _POSTGRESQL
        # PostgreSQL shows each statement another state unless it is told; SQLite never does.
        self._reading = engine.execution_options(isolation_level="REPEATABLE READ") if self._is_shared else engine

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
            if not self._turn.acquire(timeout=BUSY_SECONDS):
                raise DatabaseBusy(f"another transaction has been writing for {BUSY_SECONDS} seconds")
            stack.callback(self._turn.release)
            connection = stack.enter_context(self.engine.connect()).execution_options(**{_WRITING: True})
            stack.enter_context(connection.begin())
            if self._is_shared:
                connection.execute(_WRITERS)
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


def _open_sqlite(address: URL) -> Engine:
    engine = create_engine(address, connect_args={"timeout": BUSY_SECONDS}, **_common())
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_postgresql(address: URL) -> Engine:
    if find_spec("psycopg") is None:
        raise DriverMissing
    settings = {"lock_timeout": f"{BUSY_SECONDS}s", **_SERVER_NOTICES}
    # What the address itself says holds, and comes last.
    options = [f"-c {name}={value}" for name, value in settings.items()] + [str(address.query.get("options", ""))]
    notices = {name: value for name, value in _CLIENT_NOTICES.items() if name not in address.query}
    engine = create_engine(
        address.set(drivername="postgresql+psycopg"),
        connect_args={**notices, "options": " ".join(options), "client_encoding": "utf8"},
        isolation_level="READ COMMITTED",  # each statement sees what was written until the lock was had
        pool_pre_ping=True,  # after a restart of the server its connections are made anew, and no request notices
        **_common(),
    )
    event.listen(engine, "connect", _check_encoding)
    return engine


def _check_encoding(connection: Any, record: object) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise EncodingDiffers(encoding)


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
        code = getattr(error.orig, "sqlstate", None)
        if isinstance(error, _MISTAKES) and code != _NOT_ALLOWED:
            raise
        reason = str(error.orig).strip()
        kinds = ((DatabaseBusy, _BUSY), (DatabaseFull, _FULL))
        kind = next((kind for kind, marks in kinds if any(mark in (code or reason) for mark in marks)), DatabaseUnavailable)
        raise kind(reason) from error
