"""Migrations: they make exactly the tables that the schema declares, and nothing of a newer cowherd is touched."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from alembic.script import ScriptDirectory

from cowherd.service.records import migration
from cowherd.service.records.database import open_database
from cowherd.service.records.faults import DatabaseTooNew
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, read_image
from cowherd.service.records.migration import migrate, schema_version
from cowherd.service.records.schema import VERSION, metadata

TABLES = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"


@pytest.fixture
def kind() -> str:
    """What is told here is SQLite's way."""
    return "sqlite"


@pytest.fixture
def empty(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'new.db'}")
    yield database
    database.close()


def declared(statement: str) -> list[str]:
    """What a CREATE statement declares, in any order: constraints can stand before or after each other."""
    subject, parts, option = re.fullmatch(r"(.*?) \((.*)\)(.*)", re.sub(r"\s+", " ", statement)).groups()
    return [subject, option.strip(), *sorted(part.strip() for part in parts.split(", "))]


def tables(database) -> dict[tuple[str, str], list[str]]:
    with database.read() as connection:
        rows = connection.exec_driver_sql(TABLES).all()
    return {(kind, name): declared(sql) for kind, name, sql in rows}


def test_the_migrations_make_the_tables_of_the_schema(empty, tmp_path):
    migrate(empty)
    direct = open_database(f"sqlite:///{tmp_path / 'direct.db'}")
    with direct.write() as connection:
        metadata.create_all(connection)
    assert tables(empty) == tables(direct)
    direct.close()


def test_the_schema_is_of_the_last_migration():
    assert ScriptDirectory.from_config(migration._config()).get_heads() == [VERSION]


def test_a_database_is_migrated_once(empty):
    with empty.read() as connection:
        assert schema_version(connection) is None
    migrate(empty)
    with empty.write() as connection:
        assert schema_version(connection) == VERSION
        create_image(connection, Image(id="a"))
    migrate(empty)
    with empty.read() as connection:
        assert read_image(connection, "a").id == "a"


def test_a_migration_that_fails_leaves_nothing(empty, monkeypatch):
    from alembic import op

    def fail(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(OSError, match="Input/output error"):
        migrate(empty)
    assert tables(empty) == {}
    monkeypatch.undo()
    migrate(empty)
    with empty.read() as connection:
        assert schema_version(connection) == VERSION


def test_a_newer_database_is_left_alone(database):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = tables(database)
    with pytest.raises(DatabaseTooNew) as refusal:
        migrate(database)
    assert refusal.value.version == "9999"
    assert tables(database) == before


def test_alembic_is_loaded_only_where_there_is_something_to_do(database):
    program = (
        "import sys; from cowherd.service.records.database import open_database; "
        "from cowherd.service.records.migration import migrate; "
        f"migrate(open_database({str(database.engine.url)!r})); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_process_that_has_migrated_apart_never_loaded_alembic(tmp_path):
    url = f"sqlite:///{tmp_path / 'records.db'}"
    program = (
        "import sys; from cowherd.service.records.migration import migrate_apart; "
        f"migrate_apart({url!r}); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    database = open_database(url)
    with database.read() as connection:
        assert schema_version(connection) == VERSION
    database.close()


def test_what_is_wrong_apart_is_told_as_well(database):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNew):
        migration.migrate_apart(str(database.engine.url))
