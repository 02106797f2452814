"""Brings a database's tables to what this cowherd uses. Alembic is loaded only where there is something to do.

As a program it does so for the database whose address it reads from standard input.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from cowherd.children import module_command, module_environment
from cowherd.service.records.database import open_database
from cowherd.service.records.faults import DatabaseTooNew
from cowherd.service.records.schema import VERSION

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

    from cowherd.service.records.database import Database


def migrate(database: Database) -> None:
    """Makes the tables of a new database, or changes those of an older cowherd, in one transaction.

    Does nothing if they are as they should be. Raises `DatabaseTooNew` if a newer cowherd wrote it, `DatabaseUnavailable`.
    """
    with database.read() as connection:
        if schema_version(connection) == VERSION:
            return
    from alembic import command

    config = _config()
    with database.write() as connection:
        _check_known(config, schema_version(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, VERSION)


def migrate_apart(url: str) -> None:
    """Does what `migrate` does for the database at `url`, in a process that ends: what Alembic loads would stay for ever.

    Raises as `migrate` and `open_database`.
    """
    database = open_database(url)
    try:
        with database.read() as connection:
            if schema_version(connection) == VERSION:
                return
        # What goes wrong there goes wrong here too, and is told then.
        words, environment = module_command(__name__), module_environment()
        subprocess.run(words, input=url, text=True, env=environment, stderr=subprocess.DEVNULL, check=False)
        migrate(database)
    finally:
        database.close()


def schema_version(connection: Connection) -> str | None:
    """Returns the revision of the tables of a database, or None if it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _check_known(config: Config, version: str | None) -> None:
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise DatabaseTooNew(version)


if __name__ == "__main__":
    migrate(open_database(sys.stdin.read()))
