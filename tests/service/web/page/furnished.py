"""A service with all that its page can show: families, damage, what was refused, what is under way, and hostile names."""

from __future__ import annotations

import base64
import contextlib
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from cowherd.service.keeping.findings import note_damage
from cowherd.service.records.blobs import Blob, record_blob, record_place
from cowherd.service.records.database import open_database
from cowherd.service.records.events import Event, record_event
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image
from cowherd.service.records.lineage import Claim, record_base
from cowherd.service.records.tasks import FAILURE, Task, create_task
from tests.service.web.images.test_data import OCTETS, file_of
from tests.service.web.running import Client

MIB = 1 << 20
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = "<b>bold</b>\n<!--\"'&\u202egnp.exe\x1b[31m../../etc/passwd\u0600\u05d0"
"""A name with markup, a newline, marks that turn the direction of writing, an escape of terminals, and parts of a path."""
SHOWN = "&lt;b&gt;bold&lt;/b&gt;\\x0a&lt;!--&quot;&#x27;&amp;\\u202egnp.exe\\x1b[31m../../etc/passwd\\u0600\u05d0"
"""How a page writes it."""


@contextlib.contextmanager
def records(directory: Path) -> Iterator[Connection]:
    """Gives a connection that changes the records of the service over `directory`."""
    with contextlib.closing(open_database(f"sqlite:///{directory}/data/records.sqlite")) as database, database.write() as write:
        yield write


def add_image(connection: Connection, name: str | None, base: Image | None = None, **more: Any) -> Image:
    """Records an active image whose content no store has a file of, an overlay of `base` if there is one; returns it."""
    made = connection.exec_driver_sql("SELECT count(*) FROM images").scalar_one()
    digest = os.urandom(32).hex()
    record_blob(connection, Blob(digest=digest, size=MIB, format="qcow2", content_digest=f"content {digest}"))
    record_place(connection, digest, "default", "scrub")
    facts = {"status": "active", "disk_format": "qcow2", "container_format": "bare", "size": MIB, "blob": digest}
    image = Image(**{"id": str(uuid.uuid4()), "name": name, "created_at": FIRST + timedelta(minutes=made), **facts, **more})
    create_image(connection, image)
    if base is not None:
        record_base(connection, Claim(image.id, f"content {base.blob}", base.id, "binding"))
    return image


def add_family(connection: Connection, name: str, overlays: int, **more: Any) -> list[Image]:
    """Records a base and overlays, of which each stands on one of the first three; returns them."""
    found = [add_image(connection, name, **more)]
    for number in range(overlays):
        found.append(add_image(connection, f"{name}-{number}", found[min(number % 3, len(found) - 1)], **more))
    return found


def damage(connection: Connection, image: Image) -> None:
    """Records that the content of an image is damaged, as a scrub does."""
    note_damage(connection, image.blob or "", "default", ((0, MIB),), "scrub")


def put(client: Client, data: bytes, name: str, disk_format: str = "raw", **more: Any) -> str:
    """Makes an image and uploads its content, which may be refused; returns its id."""
    image = client.create(name=name, disk_format=disk_format, container_format="bare", **more)
    client.ask("PUT", file_of(image), data, accept="application/json", **OCTETS)
    return image["id"]


def begin_upload(client: Client, name: str, length: int, came: int) -> str:
    """Begins a resumable upload that waits for more; returns the id of its image."""
    image = client.create(name=name, disk_format="raw", container_format="bare")
    metadata = f"image_id {base64.b64encode(image['id'].encode()).decode()}"
    tus = {"tus_resumable": "1.0.0"}
    begun = client.ask("POST", "/cowherd/v1/uploads", upload_length=str(length), upload_metadata=metadata, **tus)
    path = begun.headers["location"].partition(f":{client.port}")[2]
    kind = {"content_type": "application/offset+octet-stream", "upload_offset": "0"}
    assert client.ask("PATCH", path, os.urandom(came), **kind, **tus).status == 204
    return image["id"]


def furnish(client: Client, directory: Path) -> dict[str, str]:
    """Puts all of it into a service; returns the ids of some images."""
    with records(directory) as connection:
        debian = add_family(connection, "debian-12", 14, visibility="public")
        windows = add_family(connection, "windows-2022", 7, visibility="private", owner="office")
        add_family(connection, "long-" * 40, 1)
        hostile = add_image(connection, HOSTILE, tags=(HOSTILE,), properties={"word": HOSTILE})
        add_image(connection, None)
        damage(connection, windows[1])
        create_task(
            connection, Task(id="t", type="standalone", status=FAILURE, image_id=debian[1].id, message="It is too large.")
        )
        record_event(connection, Event(action="image.delete", image_id="gone", user_id="somebody", request_id="req-1"))
    for name in ("twin-a", "twin-b"):
        put(client, b"the same", name)
    refused = put(client, b"no qcow2 at all", "refused", "qcow2")
    waiting = begin_upload(client, "on-its-way", 8 * MIB, 3 * MIB)
    client.create(name="empty")
    images = {"base": debian[0].id, "overlay": debian[1].id, "damaged": windows[1].id, "hostile": hostile.id}
    return {**images, "refused": refused, "waiting": waiting}
