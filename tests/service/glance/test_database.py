"""Glance's database is read in one state, from whichever kind it is, and nothing of it is changed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.service.glance import database
from cowherd.service.glance.database import reading_glance
from cowherd.service.glance.faults import GlanceDriverMissing, GlanceUnreadable
from cowherd.service.glance.images import read_images
from cowherd.service.records.faults import UnknownDatabase


def names(url: str) -> list[str | None]:
    with reading_glance(url) as connection:
        return [one.record.name for one in read_images(connection).images]


def test_nothing_can_be_written(glance):
    with pytest.raises(GlanceUnreadable, match="readonly"), reading_glance(glance.address) as connection:
        connection.execute(text("DELETE FROM images"))


def test_a_log_that_nobody_has_open_is_read_and_stays_as_it_is(glance, tmp_path):
    with closing(glance.connected()) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    kept = tmp_path / "kept"
    with closing(glance.connected()) as connection:  # as a Glance that was killed leaves it: the log is not in the database yet
        # Whoever closes the database last would write the log back: this one has it open.
        connection.execute("SELECT id FROM images").fetchall()
        glance.image(name="in the log")
        shutil.copytree(glance.folder, kept)
    (kept / "glance.db-shm").unlink()
    before = {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()}
    assert names(f"sqlite:///{kept / 'glance.db'}") == ["in the log"]
    assert {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()} == before


def test_a_glance_that_runs_is_read_with_its_log(glance):
    with closing(glance.connected()) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("SELECT id FROM images").fetchall()
        glance.image(name="a")
        files = sorted(path.name for path in glance.folder.iterdir())
        assert names(glance.address) == ["a"]
        assert sorted(path.name for path in glance.folder.iterdir()) == files


def test_one_state_is_read(glance):
    with closing(glance.connected()) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("SELECT id FROM images").fetchall()
        with reading_glance(glance.address) as reading:
            assert len(read_images(reading).images) == 0
            glance.image(name="late")
            assert len(read_images(reading).images) == 0


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("sqlite:////nowhere/glance.db", InvalidRequest, "there is none"),
        ("oracle://x", UnknownDatabase, "oracle"),
        ("what is this", InvalidRequest, "not the address"),
    ],
)
def test_what_is_no_database_of_glances_is_told(url, error, said):
    with pytest.raises(error, match=said):
        names(url)


def test_other_tables_are_told(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE images (id TEXT)")
    with pytest.raises(GlanceUnreadable, match="Rocky"):
        names(f"sqlite:///{tmp_path / 'other.db'}")
    (tmp_path / "none.db").write_bytes(b"no database at all, but some text" * 10)
    with pytest.raises(GlanceUnreadable, match="not a database"):
        names(f"sqlite:///{tmp_path / 'none.db'}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(HostFileError, match="folder"):
        names(f"sqlite:///{tmp_path / 'folder'}")


@pytest.mark.parametrize(
    ("url", "said"), [("postgresql+psycopg2://g:p@h/glance", "psycopg"), ("mysql+pymysql://g:p@h/glance", "PyMySQL")]
)
def test_a_driver_that_is_missing_is_told_with_what_installs_it(monkeypatch, url, said):
    monkeypatch.setattr(database, "find_spec", lambda name: None)
    with pytest.raises(GlanceDriverMissing, match=f"{said}.*pip install"):
        names(url)
