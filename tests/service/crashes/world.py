"""A service with two stores, asked without a network, and what must be true of it after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import update

from cowherd.service.keeping.fsck.report import HARMLESS
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.keeping.reading import Reader
from cowherd.service.keeping.recovery import recover
from cowherd.service.records.database import Database, open_database
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import read_image
from cowherd.service.records.migration import migrate
from cowherd.service.records.schema import images, tasks
from cowherd.service.records.states import ACTIVE, IMPORTING, SAVING
from cowherd.service.web.app import App
from cowherd.service.web.run import open_service, stores_of
from cowherd.service.web.service import Service
from cowherd.service.web.settings import read_settings
from cowherd.stores.directory import DirectoryStore

DATA = b"some bytes" * 10_000
OTHER = b"other bytes" * 10_000
OCTETS = {"content-type": "application/octet-stream"}
TUS = {"tus-resumable": "1.0.0"}


@dataclass
class World:
    """The data of a service in `folder`. `ids` names its images, `contents` holds what each of them may have."""

    folder: Path
    ids: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    """More settings."""
    damage: tuple[str, ...] = ()
    """Kinds of what the check may find, as somebody damaged the stores."""

    @property
    def data(self) -> Path:
        """Where all of it lies that a kill may leave halfway."""
        return self.folder / "data"

    @property
    def _acknowledged(self) -> Path:
        return self.folder / "acknowledged"

    @classmethod
    def new(cls, folder: Path, tables: Path) -> World:
        """Makes one with the tables that are in the file `tables`."""
        world = cls(folder)
        world.data.mkdir(parents=True)
        shutil.copy(tables, world.data / "records.sqlite")
        for store in world.stores().values():
            store.prepare()
        return world

    def settings(self) -> Any:
        stores = f"stores=one={self.data}/one,two={self.data}/two"
        return read_settings(None, [stores, *self.words], {"data": str(self.data)})

    def stores(self) -> dict[str, DirectoryStore]:
        return stores_of(self.settings())

    def opened(self) -> Database:
        return open_database(self.settings().database_url)

    @contextlib.contextmanager
    def service(self) -> Iterator[Service]:
        """Gives the service."""
        service = open_service(self.settings())
        try:
            yield service
        finally:
            service.sessions.close()
            service.database.close()

    def acknowledge(self, what: str) -> None:
        """Notes that somebody was told of something; it is known after a kill too."""
        fd = os.open(self._acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, f"{what}\n".encode())
        os.close(fd)

    def acknowledged(self) -> set[str]:
        """Returns what was acknowledged."""
        return set(self._acknowledged.read_text().split()) if self._acknowledged.exists() else set()

    def restart(self) -> None:
        """Does what a service does when it starts, and carries out the tasks that one left which was killed."""
        with contextlib.closing(self.opened()) as database:
            migrate(database)
        with self.service() as service:
            recover(service.database, service.stores)
            with service.database.write() as connection:
                connection.execute(update(tasks).values(leased_until=now() - timedelta(seconds=1)))
            do_tasks(service)

    def image(self, name: str) -> Image:
        """Returns the record of an image."""
        with contextlib.closing(self.opened()) as database, database.read() as connection:
            return read_image(connection, self.ids[name])

    def content(self, name: str) -> bytes:
        """Returns what a reader gets of an image."""
        image = self.image(name)
        with contextlib.closing(self.opened()) as database:
            descriptor = Reader(database, self.stores(), image.blob or "", image.size or 0).open(0, image.size or 0)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()

    def require_sense(self) -> None:
        """Requires that nothing is half: not in the records, not in the stores, and not in what a reader gets."""
        with contextlib.closing(self.opened()) as database:
            found = [one for one in check_service(database, self.stores(), repair=False) if one.kind not in HARMLESS]
            with database.read() as connection:
                known = {row.id: row.status for row in connection.execute(images.select())}
        assert [one for one in found if one.kind not in self.damage] == [], found
        assert not {SAVING, IMPORTING}.intersection(known.values())
        for name, image_id in self.ids.items():
            if known.get(image_id) == ACTIVE and name in self.contents:
                assert self.content(name) == self.contents[name]
                assert self.image(name).checksum == hashlib.md5(self.contents[name]).hexdigest()


def do_tasks(service: Service) -> None:
    """Does all tasks that are free, in this thread."""
    while (task := service.runner._take()) is not None:
        service.runner._do(task)


def ask(
    service: Service, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Asks a service for something, without a network; returns the status, the headers and the body."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    given = {"host": "x", **(headers or {}), **({"content-length": str(len(body))} if body else {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(App(service)(scope, receive, send))
    answer = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answer, b"".join(message.get("body", b"") for message in sent[1:])
