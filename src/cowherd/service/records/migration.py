"""Brings a database's tables to what this cowherd uses. Alembic is loaded only where there is something to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from cowherd.service.records.database import take_turn
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
        take_turn(connection, "migration")
        _check_known(config, schema_version(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, VERSION)


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
