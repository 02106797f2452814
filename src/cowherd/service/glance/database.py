"""Opens Glance's database so that nothing in it, and no file of it, can be changed."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.service.glance.faults import GlanceDriverMissing, GlanceTablesDiffer, GlanceUnreadable
from cowherd.service.records.faults import UnknownDatabase
from cowherd.storage.presence import is_there

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

_BUSY_SECONDS = 60
_IS_WAL = b"\x02\x02"
_AT_WAL = 18  # the versions that a writer and a reader of the file need: see "The Database Header" in SQLite's file format


@contextlib.contextmanager
def reading_glance(url: str) -> Iterator[Connection]:
    """Gives a connection that reads, and that sees one state of Glance's database.

    `url` is as Glance's configuration has it. Raises `InvalidRequest`, as `UnknownDatabase` and `GlanceDriverMissing`;
    `HostFileError`, `GlanceUnreadable`, and `GlanceTablesDiffer` for what the block asks.
    """
    address = _address_of(url)
    opened = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mariadb}.get(address.get_backend_name())
    if opened is None:
        raise UnknownDatabase(address.get_backend_name())
    with (
        opened(address) as engine,
        _told(GlanceUnreadable),
        engine.connect() as connection,
        connection.begin(),
        _told(GlanceTablesDiffer),
    ):
        yield connection


@contextlib.contextmanager
def _told(kind: type[GlanceUnreadable]) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise kind(str(error.orig).strip()) from error


def _address_of(url: str) -> URL:
    try:
        return make_url(url).difference_update_query(["plugin"])  # one of SQLAlchemy's own, which need not be installed here
    except ArgumentError as error:
        raise InvalidRequest("Glance's configuration: 'connection' is not the address of a database") from error


@contextlib.contextmanager
def _postgresql(address: URL) -> Iterator[Engine]:
    if find_spec("psycopg") is None:
        raise GlanceDriverMissing("psycopg", "postgresql")
    options = {"options": "-c default_transaction_read_only=on"}
    yield create_engine(
        address.set(drivername="postgresql+psycopg"),
        connect_args=options,
        poolclass=NullPool,
        isolation_level="REPEATABLE READ",
    )


@contextlib.contextmanager
def _mariadb(address: URL) -> Iterator[Engine]:
    if find_spec("pymysql") is None:
        raise GlanceDriverMissing("PyMySQL", "mariadb")
    begun = {"init_command": "SET SESSION TRANSACTION READ ONLY"}
    yield create_engine(
        address.set(drivername="mysql+pymysql"), connect_args=begun, poolclass=NullPool, isolation_level="REPEATABLE READ"
    )


@contextlib.contextmanager
def _sqlite(address: URL) -> Iterator[Engine]:
    path = Path(address.database or "")
    if not is_there(path):
        raise InvalidRequest(f"Glance's database is to be at {path}, and there is none")
    with contextlib.ExitStack() as stack:
        # SQLite makes files beside a database with a write-ahead log that nobody has open: then a copy is read.
        if _has_log(path) and not is_there(_beside(path, "-shm")):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = _copied(path, Path(folder))
        name = f"file:{quote(str(path.absolute()))}?mode=ro"
        engine = create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(name, uri=True, timeout=_BUSY_SECONDS), poolclass=NullPool
        )
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin)
        yield engine


def _has_log(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_AT_WAL + len(_IS_WAL))[_AT_WAL:] == _IS_WAL
    except OSError as error:
        raise HostFileError(path, "read", error) from error


def _copied(path: Path, folder: Path) -> Path:
    target = folder / "glance.sqlite"
    names = [""] + ["-wal"] * is_there(_beside(path, "-wal"))
    try:
        for ending in names:
            shutil.copyfile(_beside(path, ending), _beside(target, ending))
    except OSError as error:
        raise HostFileError(path, "copy", error) from error
    return target


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _leave_transactions_to_us(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # Python's own module begins none for a SELECT


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
