"""The database: durable, consistent, and clear about what it can't do."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest
from sqlalchemy import event

from cowherd.service.records import database as module
from cowherd.service.records.database import open_database
from cowherd.service.records.faults import (
    DatabaseBusy,
    DatabaseFull,
    DatabaseUnavailable,
    UnknownDatabase,
)
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image
from cowherd.service.records.pages import Query, Viewer, page

ADMIN = Viewer(None, everything=True)


@pytest.fixture
def kind() -> str:
    """What is told here is SQLite's way."""
    return "sqlite"


def count(database) -> int:
    with database.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM images").scalar()


def file_of(database) -> str:
    return database.engine.url.database


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "oracle://z"])
def test_a_kind_of_database_that_can_not_be_used_is_refused(url):
    with pytest.raises(UnknownDatabase):
        open_database(url)


def test_what_a_transaction_wrote_is_there_for_others(database):
    with database.write() as connection:
        create_image(connection, Image(id="a"))
    with closing(sqlite3.connect(file_of(database))) as other:
        assert other.execute("SELECT id FROM images").fetchall() == [("a",)]


def test_every_commit_is_durable(database):
    with database.write() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


def test_writers_of_two_processes_wait_for_each_other(database):
    other = open_database(str(database.engine.url))

    def create(name: str, into: module.Database) -> None:
        for place in range(30):
            with into.write() as connection:
                assert count(into) >= place
                create_image(connection, Image(id=f"{name}-{place}"))

    threads = [threading.Thread(target=create, args=pair) for pair in (("a", database), ("b", other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 60
    other.close()


def test_a_lock_that_another_program_holds_for_too_long_is_told(database, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    impatient = open_database(str(database.engine.url))
    holder = sqlite3.connect(file_of(database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusy), impatient.write():
        pass
    with impatient.read() as connection:
        assert page(connection, Query(), ADMIN) == []
    holder.execute("ROLLBACK")
    with impatient.write() as connection:
        create_image(connection, Image(id="a"))
    assert count(impatient) == 1
    impatient.close()
    holder.close()


def test_a_thread_that_holds_the_lock_for_too_long_is_told(database, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    with database.write(), pytest.raises(DatabaseBusy):
        _in_a_thread(lambda: database.write().__enter__())
    assert count(database) == 0


def test_readers_that_take_all_connections_are_told_to_those_who_wait(database, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(module, "CONNECTIONS", 1)
    narrow = open_database(str(database.engine.url))
    with narrow.read(), pytest.raises(DatabaseBusy):
        _in_a_thread(lambda: narrow.read().__enter__())
    narrow.close()


def _in_a_thread(work) -> None:
    """Does `work` in another thread, and raises here what it raised there."""
    raised = []

    def run() -> None:
        try:
            work()
        except DatabaseUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in raised:
        raise error


def fill(connection) -> None:
    """Writes more than fits in the pages that SQLite may use."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    for number in range(1000):
        create_image(connection, Image(id=f"{number}", reason="x" * 5000))


def test_a_full_disk_is_told_and_nothing_is_lost(database):
    with database.write() as connection:
        create_image(connection, Image(id="a"))
    with pytest.raises(DatabaseFull), database.write() as connection:
        fill(connection)
    assert count(database) == 1


@pytest.mark.parametrize("damage", [b"no database", bytes(4096)])
def test_a_file_that_is_no_database_is_told(tmp_path, damage):
    (tmp_path / "x").write_bytes(damage)
    database = open_database(f"sqlite:///{tmp_path / 'x'}")
    with pytest.raises(DatabaseUnavailable), database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM images")
    database.close()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'none' / 'x'}")
    with pytest.raises(DatabaseUnavailable), database.read():
        pass


def test_a_page_of_many_images_is_one_query(database):
    with database.write() as connection:
        for number in range(200):
            facts = {"tags": ("a", "b"), "properties": {"k": "v", "l": f"{number}"}}
            create_image(connection, Image(id=f"{number}", visibility="public", **facts))
    asked = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    with database.read() as connection:
        assert len(page(connection, Query(limit=1000), Viewer("p"))) == 200
    assert [text.split()[0] for text in asked] == ["BEGIN", "SELECT"]
