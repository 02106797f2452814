"""A Glance whose records are in PostgreSQL or MariaDB, as most are."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, MetaData, NullPool, Table, create_engine, insert, make_url, text, update

from tests.service.glance.glance import CREATED, TABLES, UPDATED, Glance

_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_WORDS = {
    "postgresql": {
        "INTEGER PRIMARY KEY": "SERIAL PRIMARY KEY",
        "DATETIME": "TIMESTAMP",
        "BOOLEAN DEFAULT 0": "BOOLEAN DEFAULT FALSE",
    },
    "mysql": {"INTEGER PRIMARY KEY": "INTEGER PRIMARY KEY AUTO_INCREMENT"},
}


class ServedGlance(Glance):
    """A Glance in a folder, with its records in the empty database at `address`, which the configuration names."""

    def __init__(self, folder: Path, address: str):
        self._address, self._known = address, MetaData()
        super().__init__(folder)

    @property
    def address(self) -> str:
        """The address of the database, as the configuration has it."""
        return self._address

    @property
    def engine(self) -> Engine:
        """What opens the database to change it."""
        url = make_url(self._address)
        return create_engine(url.set(drivername=_DRIVERS[url.get_backend_name()]), poolclass=NullPool)

    def make_tables(self) -> None:
        """Makes the tables, in the words of the database."""
        statements = TABLES
        for word, own in _WORDS[make_url(self._address).get_backend_name()].items():
            statements = statements.replace(word, own)
        with self.engine.begin() as connection:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(text(statement))

    def insert(self, table: str, **columns: object) -> int:
        """Adds a row."""
        with self.engine.begin() as connection:
            done = connection.execute(
                insert(self._table(table)).values({"created_at": CREATED, "updated_at": UPDATED, **columns})
            )
            key = (done.inserted_primary_key or [0])[0]
        return key if isinstance(key, int) else 0

    def change(self, image_id: str, **columns: object) -> None:
        """Changes the row of an image."""
        images = self._table("images")
        with self.engine.begin() as connection:
            connection.execute(update(images).where(images.c.id == image_id).values(**columns))

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Returns all that the database holds, by its tables."""
        found = MetaData()
        found.reflect(self.engine)
        with self.engine.connect() as connection:
            return {table.name: sorted(map(tuple, connection.execute(table.select())), key=str) for table in found.sorted_tables}

    def _table(self, name: str) -> Table:
        return Table(name, self._known, autoload_with=self.engine)
