"""PostgreSQL: what is particular to it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from alembic import command
from sqlalchemy import text

from cowherd.service.records import database as module
from cowherd.service.records import migration
from cowherd.service.records.database import open_database
from cowherd.service.records.faults import DatabaseBusy, DatabaseUnavailable, DriverMissing, EncodingDiffers
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status, create_image, read_image
from cowherd.service.records.migration import migrate, schema_version
from cowherd.service.records.schema import VERSION, metadata

MIGRATE = """
import sys
from cowherd.service.records.database import open_database
from cowherd.service.records.migration import migrate
migrate(open_database(sys.argv[1]))
"""
TABLES = """
SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns
    WHERE table_schema = 'public'
UNION ALL SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '' FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
ORDER BY 1, 2, 3
"""


@pytest.fixture
def kind() -> str:
    return "postgresql"


def address_of(database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def tables_of(database) -> list[tuple[str, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(text(TABLES)) if row[0] != "alembic_version"]


def upgrade(database, revision: str) -> None:
    """Makes the tables of an older cowherd."""
    config = migration._config()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_a_driver_that_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DriverMissing, match="psycopg"):
        open_database("postgresql://somebody@host/records")


def test_a_transaction_of_another_process_that_writes_for_too_long_is_told(database, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    impatient = open_database(address_of(database))
    with database.write(), pytest.raises(DatabaseBusy), impatient.write():
        pass
    with impatient.write() as connection:
        create_image(connection, Image(id="a"))
    impatient.close()


def test_a_row_that_another_program_holds_for_too_long_is_told(database, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    impatient = open_database(address_of(database))
    with database.write() as connection:
        create_image(connection, Image(id="a"))
    with database.engine.begin() as another:
        another.execute(text("UPDATE images SET name = 'x'"))
        with pytest.raises(DatabaseBusy), impatient.write() as connection:
            change_status(connection, "a", ["queued"], "saving")
    impatient.close()


def test_those_who_only_read_do_not_wait_for_who_writes(database):
    other = open_database(address_of(database))
    with database.write() as connection:
        create_image(connection, Image(id="a"))
        with other.read() as reading:
            assert reading.execute(text("SELECT count(*) FROM images")).scalar() == 0
    other.close()


def test_a_server_that_is_gone_is_told(server):
    nowhere = open_database(server.url("tables").replace(str(server.folder), "/nowhere"))
    with pytest.raises(DatabaseUnavailable), nowhere.read():
        pass


def test_a_database_in_another_encoding_is_refused(server):
    latin = open_database(server.create("latin", "template0", "-E", "LATIN1", "--locale=C", "--locale-provider=libc"))
    with pytest.raises(EncodingDiffers, match="has the encoding LATIN1"):
        migrate(latin)


def test_a_role_that_may_not_make_tables_is_told(server):
    address = server.create("foreign")
    server.ask("foreign", "CREATE ROLE stranger LOGIN")
    stranger = open_database(address.replace(f"//{server.superuser}@", "//stranger@"))
    with pytest.raises(DatabaseUnavailable, match="permission denied"):
        migrate(stranger)
    stranger.close()


def test_what_the_address_asks_of_the_server_holds_beside_what_is_asked_always(server):
    given = open_database(f"{server.create('asking')}&options=-c%20work_mem%3D7MB&application_name=mine")
    with given.read() as connection:
        asked = [connection.execute(text(f"SHOW {name}")).scalar() for name in ("work_mem", "application_name", "lock_timeout")]
    assert asked == ["7MB", "mine", "1min"]
    given.close()


def test_texts_are_sorted_by_code_points(connection):
    for name in ("b", "B", "\u00e4", "a b", "ab"):
        create_image(connection, Image(id=name, name=name))
    names = connection.execute(text("SELECT name FROM images ORDER BY name")).scalars().all()
    assert names == ["B", "a b", "ab", "b", "\u00e4"]


def test_processes_that_make_the_tables_at_once_make_them_once(server):
    address = server.create("empty")
    programs = [subprocess.Popen([sys.executable, "-c", MIGRATE, address]) for _ in range(3)]
    assert [program.wait(60) for program in programs] == [0, 0, 0]


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_the_tables_of_each_older_cowherd_become_those_of_the_schema(server, database, revision):
    older = open_database(server.create(f"older_{revision}"))
    upgrade(older, revision)
    with older.write() as connection:
        create_image(connection, Image(id="a", name="kept"))
    migrate(older)
    assert tables_of(older) == tables_of(database)
    with older.read() as connection:
        assert (schema_version(connection), read_image(connection, "a").name) == (VERSION, "kept")
    older.close()


def test_the_migrations_make_the_tables_of_the_schema(server, database):
    direct = open_database(server.create("direct"))
    with direct.write() as connection:
        metadata.create_all(connection)
    assert tables_of(database) == tables_of(direct)
    direct.close()


def test_a_migration_that_fails_leaves_nothing(server, monkeypatch):
    from alembic import op

    def fail(*arguments, **options):
        raise OSError(5, "Input/output error")

    empty = open_database(server.create("failing"))
    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(OSError, match="Input/output error"):
        migrate(empty)
    assert tables_of(empty) == []
    monkeypatch.undo()
    migrate(empty)
    with empty.read() as connection:
        assert schema_version(connection) == VERSION
    empty.close()


def end_connections(server, database) -> None:
    """Has the server end all connections to a database, as when it is restarted."""
    name = database.engine.url.database
    server.ask("postgres", f"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = '{name}'")


def test_connections_that_were_lost_while_nobody_used_them_are_no_error(server, database):
    held = [database.read() for _ in range(4)]
    for one in held:
        one.__enter__()
    for one in held:
        one.__exit__(None, None, None)
    end_connections(server, database)
    for number in range(6):
        with database.write() as connection:
            create_image(connection, Image(id=f"{number}"))
        with database.read() as connection:
            assert read_image(connection, f"{number}").id == f"{number}"


def test_a_connection_that_is_lost_in_use_is_told_and_what_was_written_is_given_up(server, database):
    def lose(*images: str) -> None:
        with database.write() as connection:
            create_image(connection, Image(id="a"))
            end_connections(server, database)
            for image_id in images:
                create_image(connection, Image(id=image_id))

    for images in ("b", ""):  # in a statement, and in the commit
        with pytest.raises(DatabaseUnavailable):
            lose(*images)
    with database.write() as connection:
        create_image(connection, Image(id="a"))


def test_those_who_wait_go_on_when_the_connection_of_who_writes_is_lost(server, database):
    other, done = open_database(address_of(database)), []

    def write() -> None:
        with other.write() as connection:
            create_image(connection, Image(id="of the other"))
            done.append(True)

    def lose() -> None:
        with database.write() as connection:
            create_image(connection, Image(id="lost"))
            thread = threading.Thread(target=write)
            thread.start()
            process = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            server.ask("postgres", f"SELECT pg_terminate_backend({process}, 30000)")
            thread.join(30)
            assert done == [True]
            create_image(connection, Image(id="late"))

    with pytest.raises(DatabaseUnavailable):
        lose()
    other.close()
