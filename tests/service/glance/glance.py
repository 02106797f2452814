"""A Glance without a Glance: its configuration, a database with the tables of its newest release, and a file store."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

# All columns that Glance 33 has in these tables, which are those since Rocky.
TABLES = """
CREATE TABLE images (id VARCHAR(36) NOT NULL PRIMARY KEY, name VARCHAR(255), disk_format VARCHAR(20),
  container_format VARCHAR(20), size BIGINT, virtual_size BIGINT, status VARCHAR(30) NOT NULL,
  visibility VARCHAR(9) DEFAULT 'shared' NOT NULL, checksum VARCHAR(32), os_hash_algo VARCHAR(64),
  os_hash_value VARCHAR(128), min_disk INTEGER NOT NULL, min_ram INTEGER NOT NULL,
  owner VARCHAR(255), protected BOOLEAN DEFAULT 0 NOT NULL, os_hidden BOOLEAN DEFAULT 0 NOT NULL, created_at DATETIME NOT NULL,
  updated_at DATETIME, deleted_at DATETIME, deleted BOOLEAN NOT NULL);
CREATE TABLE image_properties (id INTEGER PRIMARY KEY, image_id VARCHAR(36) NOT NULL, name VARCHAR(255) NOT NULL, value TEXT,
  created_at DATETIME NOT NULL, updated_at DATETIME, deleted_at DATETIME, deleted BOOLEAN NOT NULL);
CREATE TABLE image_tags (id INTEGER PRIMARY KEY, image_id VARCHAR(36) NOT NULL, value VARCHAR(255) NOT NULL,
  created_at DATETIME NOT NULL, updated_at DATETIME, deleted_at DATETIME, deleted BOOLEAN NOT NULL);
CREATE TABLE image_members (id INTEGER PRIMARY KEY, image_id VARCHAR(36) NOT NULL, member VARCHAR(255) NOT NULL,
  can_share BOOLEAN NOT NULL, status VARCHAR(20) DEFAULT 'pending' NOT NULL,
  created_at DATETIME NOT NULL, updated_at DATETIME, deleted_at DATETIME, deleted BOOLEAN NOT NULL);
CREATE TABLE image_locations (id INTEGER PRIMARY KEY, image_id VARCHAR(36) NOT NULL, value TEXT NOT NULL, meta_data TEXT,
  status VARCHAR(30) DEFAULT 'active' NOT NULL,
  created_at DATETIME NOT NULL, updated_at DATETIME, deleted_at DATETIME, deleted BOOLEAN NOT NULL);
CREATE TABLE metadef_namespaces (id INTEGER PRIMARY KEY, namespace VARCHAR(80) NOT NULL, display_name VARCHAR(80),
  description TEXT, visibility VARCHAR(32), protected BOOLEAN, owner VARCHAR(255) NOT NULL,
  created_at DATETIME NOT NULL, updated_at DATETIME);
CREATE TABLE metadef_objects (id INTEGER PRIMARY KEY, namespace_id INTEGER NOT NULL, name VARCHAR(80) NOT NULL, description TEXT,
  required TEXT, json_schema TEXT NOT NULL, created_at DATETIME NOT NULL, updated_at DATETIME);
CREATE TABLE metadef_properties (id INTEGER PRIMARY KEY, namespace_id INTEGER NOT NULL, name VARCHAR(80) NOT NULL,
  json_schema TEXT NOT NULL, created_at DATETIME NOT NULL, updated_at DATETIME);
CREATE TABLE metadef_tags (id INTEGER PRIMARY KEY, namespace_id INTEGER NOT NULL, name VARCHAR(80) NOT NULL,
  created_at DATETIME NOT NULL, updated_at DATETIME);
CREATE TABLE metadef_resource_types (id INTEGER PRIMARY KEY, name VARCHAR(80) NOT NULL, protected BOOLEAN NOT NULL,
  created_at DATETIME NOT NULL, updated_at DATETIME);
CREATE TABLE metadef_namespace_resource_types (resource_type_id INTEGER NOT NULL, namespace_id INTEGER NOT NULL,
  properties_target VARCHAR(80), prefix VARCHAR(80), created_at DATETIME NOT NULL, updated_at DATETIME,
  PRIMARY KEY (resource_type_id, namespace_id));
"""
CREATED, UPDATED = "2024-05-06 07:08:09.000000", "2025-01-02 03:04:05.000000"
_WITH_CONTENT = ("active", "deactivated")


class Glance:
    """A Glance in a folder, with its records in an SQLite file there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.store = folder / "images"
        self.store.mkdir(parents=True)
        self.database = folder / "glance.db"
        self.configuration = folder / "glance-api.conf"
        self.configure()
        self.make_tables()

    @property
    def address(self) -> str:
        """The address of the database, as the configuration has it."""
        return f"sqlite:///{self.database}?timeout=60"

    def make_tables(self) -> None:
        """Makes the tables."""
        with self.changing() as connection:
            connection.executescript(TABLES)

    def configure(self, text: str = "[glance_store]\nfilesystem_store_datadir = $store\n[DEFAULT]\n") -> None:
        """Writes the configuration; $store in it is the directory of the file store."""
        filled = text.replace("$store", str(self.store))
        self.configuration.write_text(f"[database]\nconnection = {self.address}\n{filled}")

    def connected(self) -> sqlite3.Connection:
        """Returns a connection to the database, which the caller closes."""
        return sqlite3.connect(self.database)

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Gives a connection for one change."""
        with closing(self.connected()) as connection, connection:
            yield connection

    def insert(self, table: str, **columns: object) -> int:
        """Adds a row."""
        row = {"created_at": CREATED, "updated_at": UPDATED, **columns}
        with self.changing() as connection:
            words = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
            return connection.execute(words, list(row.values())).lastrowid or 0

    def change(self, image_id: str, **columns: object) -> None:
        """Changes the row of an image."""
        with self.changing() as connection:
            sets = ", ".join(f"{name} = ?" for name in columns)
            connection.execute(f"UPDATE images SET {sets} WHERE id = ?", [*columns.values(), image_id])

    def image(self, data: bytes | None = b"content", *, url: str | None = None, metadata: str = "{}", **columns: object) -> str:
        """Adds an image, and its content as a file if it is in a state that has some; returns its id."""
        image_id = str(columns.get("id", uuid.uuid4()))
        status = columns.get("status", "active")
        stated = {} if data is None or status not in _WITH_CONTENT else facts_of(data)
        row = {"status": status, "disk_format": "raw", "container_format": "bare", "min_disk": 0, "min_ram": 0, "owner": "demo"}
        self.insert("images", **{"id": image_id, "deleted": 0, **row, **stated, **columns})
        if stated:
            self.path(image_id).write_bytes(data or b"")
            self.of(image_id, "locations", value=url or f"file://{self.path(image_id)}", meta_data=metadata, status="active")
        return image_id

    def of(self, image_id: str, what: str, **columns: object) -> None:
        """Adds a row to what an image has: to its properties, tags, members or locations."""
        self.insert(f"image_{what}", image_id=image_id, **{"deleted": 0, **columns})

    def path(self, image_id: str) -> Path:
        """Returns the path of an image's file."""
        return self.store / image_id

    def namespace(self, name: str) -> int:
        """Adds a namespace with one definition of each kind in it."""
        number = self.insert(
            "metadef_namespaces", namespace=name, display_name="Shown", visibility="public", owner="admin", protected=1
        )
        kind = self.insert("metadef_resource_types", name=f"OS::{name}", protected=1)
        self.insert("metadef_namespace_resource_types", namespace_id=number, resource_type_id=kind, prefix="hw_")
        self.insert("metadef_properties", namespace_id=number, name="p", json_schema=json.dumps({"type": "string", "title": "P"}))
        inner = {"q": {"type": "integer", "title": "Q", "default": None}}
        self.insert("metadef_objects", namespace_id=number, name="o", required="q,r", json_schema=json.dumps(inner))
        self.insert("metadef_tags", namespace_id=number, name="t")
        return number

    def everything(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Returns what could be changed of its files: permissions, links, time of the last change, and bytes."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            info = path.stat()
            found[str(path)] = (info.st_mode, info.st_nlink, info.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        return found


def facts_of(data: bytes) -> dict[str, object]:
    """Returns what Glance records of content."""
    return {
        "size": len(data),
        "virtual_size": len(data),
        "checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "os_hash_algo": "sha512",
        "os_hash_value": hashlib.sha512(data).hexdigest(),
    }
