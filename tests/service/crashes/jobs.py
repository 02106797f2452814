"""What the service does, each with what there is before, how it is done, and what must be so once it is done or acknowledged."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cowherd.service.intake.upload import Upload
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.keeping.reaper import reap
from cowherd.service.keeping.rebuild import rebuild
from cowherd.service.keeping.recovery import recover
from cowherd.service.keeping.scrub import Scrub
from cowherd.service.records.checks import is_empty
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.image import now
from cowherd.service.records.migration import migrate, schema_version
from cowherd.service.records.schema import VERSION
from cowherd.service.records.states import ACTIVE, QUEUED, UPLOADING
from cowherd.service.records.uploads import list_uploads
from cowherd.service.web.service import Service
from tests.service.crashes.world import DATA, OCTETS, OTHER, TUS, World, ask, do_tasks
from tests.service.keeping.keeping import flip

_CHUNK = {**TUS, "content-type": "application/offset+octet-stream"}
_COPY = {"method": {"name": "copy-image"}, "stores": ["two"]}
_BACK = (
    *("DROP INDEX events_by_action", "DROP INDEX events_by_project", "DROP TABLE leases", "DROP TABLE cached"),
    "ALTER TABLE places DROP COLUMN identity",
)
"""What makes the tables those of the first migration again."""
_DIRECT = {"method": {"name": "glance-direct"}}


@dataclass(frozen=True)
class Job:
    """`prepare` makes what is there before, `work` does it, also a second time, and `check` says what must be true then.

    `check` is told whether the work came to its end.
    """

    name: str
    prepare: Callable[[World, Service], object]
    work: Callable[[World, Service], object]
    check: Callable[[World, bool], object]


def new_image(world: World, service: Service, name: str, data: bytes) -> str:
    """Makes a queued image that is to have some bytes; returns its path."""
    status, _, body = ask(service, "POST", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})
    assert status == 201, body
    world.ids[name], world.contents[name] = json.loads(body)["id"], data
    return path_of(world, name)


def path_of(world: World, name: str) -> str:
    return f"/v2/images/{world.ids[name]}"


def stored(world: World, service: Service, name: str, data: bytes) -> None:
    """Makes an active image."""
    assert ask(service, "PUT", f"{new_image(world, service, name, data)}/file", data, OCTETS)[0] == 204


def status_of(world: World, name: str) -> str | None:
    try:
        return world.image(name).status
    except ImageNotFound:
        return None


# Uploads


def put(world: World, service: Service) -> None:
    if status_of(world, "new") != ACTIVE:
        assert ask(service, "PUT", f"{path_of(world, 'new')}/file", DATA, OCTETS)[0] == 204
        world.acknowledge("new")


def check_new(world: World, done: bool) -> None:
    assert status_of(world, "new") in ((ACTIVE,) if done or "new" in world.acknowledged() else (ACTIVE, QUEUED, UPLOADING))


def stage_and_import(world: World, service: Service) -> None:
    path = path_of(world, "new")
    if status_of(world, "new") == QUEUED:
        assert ask(service, "PUT", f"{path}/stage", DATA, OCTETS)[0] == 204
        world.acknowledge("staged")
    if status_of(world, "new") == UPLOADING:
        assert ask(service, "POST", f"{path}/import", _DIRECT)[0] == 202
        world.acknowledge("new")
    do_tasks(service)


def check_imported(world: World, done: bool) -> None:
    check_new(world, done)
    if "staged" in world.acknowledged():
        assert status_of(world, "new") in (UPLOADING, ACTIVE)


def to_be_converted(world: World, service: Service) -> None:
    new_image(world, service, "new", DATA)
    world.contents.clear()  # what comes of it are other bytes
    world.words = ("import_convert=qcow2",)


def check_converted(world: World, done: bool) -> None:
    check_imported(world, done)
    if status_of(world, "new") == ACTIVE:
        assert world.content("new")[:4] == b"QFI\xfb"


def resume(world: World, service: Service) -> None:
    """Uploads in two requests, or goes on with what was begun."""
    if status_of(world, "new") == QUEUED:
        metadata = f"image_id {base64.b64encode(world.ids['new'].encode()).decode()}"
        given = {"upload-length": str(len(DATA)), "upload-metadata": metadata, **TUS}
        status, headers, _ = ask(service, "POST", "/cowherd/v1/uploads", b"", given)
        assert status == 201
        (world.folder / "location").write_text("/cowherd" + headers["location"].partition("/cowherd")[2])
    if status_of(world, "new") == UPLOADING:
        _append_rest(world, service, world.folder / "location")


def _append_rest(world: World, service: Service, location: Path) -> None:
    if not location.exists():  # the answer was lost: whoever does not know the upload ends it with its image
        assert ask(service, "DELETE", path_of(world, "new"))[0] == 204
        new_image(world, service, "new", DATA)
        resume(world, service)
        return
    path = location.read_text()
    offset = int(ask(service, "HEAD", path, b"", TUS)[1]["upload-offset"])
    assert offset >= max((int(one) for one in world.acknowledged() if one.isdecimal()), default=0)
    for end in (len(DATA) // 2, len(DATA)):
        if offset < end or end == len(DATA):
            answer = ask(service, "PATCH", path, DATA[offset:end], {"upload-offset": str(offset), **_CHUNK})
            assert answer[0] == 204, answer
            offset = end
            world.acknowledge("new" if end == len(DATA) else str(end))


# What is there already


def delete(world: World, service: Service) -> None:
    if status_of(world, "old") is not None:
        assert ask(service, "DELETE", path_of(world, "old"))[0] == 204
        world.acknowledge("deleted")
    reap(service.database, service.stores, timedelta(0))


def check_deleted(world: World, done: bool) -> None:
    assert status_of(world, "kept") == ACTIVE
    if "deleted" in world.acknowledged() or done:
        assert status_of(world, "old") is None
    if done:
        assert len([one for store in world.stores().values() for one in store.digests()]) == 1


def copy(world: World, service: Service) -> None:
    if len(world.image("old").stores) == 1:
        ask(service, "POST", f"{path_of(world, 'old')}/import", _COPY)  # refused while one is under way
    do_tasks(service)


def check_copied(world: World, done: bool) -> None:
    assert status_of(world, "old") == ACTIVE
    if done:
        assert world.image("old").stores == ("one", "two")


def damaged(world: World, service: Service) -> None:
    """Makes an image in two stores, of which one is damaged, with its sums."""
    stored(world, service, "old", OTHER)
    copy(world, service)
    digest = world.image("old").blob or ""
    flip(service.stores["one"].path(digest), 1000)
    flip(service.stores["one"].beside(digest, "sums"), 3)
    service.stores["two"].delete_beside(digest, "about")
    world.damage = ("damaged", "sums", "about", "recovered")


def scrub(world: World, service: Service) -> None:
    one = Scrub(service.database, service.stores, None, timedelta(0) - timedelta(days=1))
    for store in service.stores.values():
        for place in one._due(store, now() + timedelta(days=1), set()):
            one._verifies(store, place, lambda: None)
    one.repair_all(lambda: None)


def check_scrubbed(world: World, done: bool) -> None:
    assert world.content("old") == OTHER
    if done:
        world.damage = ()
        world.require_sense()
        digest = world.image("old").blob or ""
        assert [store.verify(digest) for store in world.stores().values()] == [(), ()]


def repair_all(world: World, service: Service) -> None:
    list(check_service(service.database, service.stores, repair=True))


def left_over(world: World, service: Service) -> None:
    """Leaves what a killed upload, a killed import and a killed resumable upload leave."""
    damaged(world, service)
    for name in ("new", "more"):
        new_image(world, service, name, DATA)
    child = os.fork()
    if not child:
        try:
            _begin_all(world)
        finally:
            os._exit(9)
    os.waitpid(child, 0)


def _begin_all(world: World) -> None:
    with world.service() as service:
        intake = service.intakes("one")
        Upload.begin(intake, world.image("new")).feed(DATA)
        ask(service, "PUT", f"{path_of(world, 'more')}/stage", DATA, OCTETS)
        with service.database.read() as connection:
            (staged,) = list_uploads(connection, image_id=world.ids["more"])
        Upload.of_staged(intake, world.image("more"), staged).feed_staged()
        os._exit(9)


def put_right(world: World, service: Service) -> None:
    recover(service.database, service.stores)


def check_put_right(world: World, done: bool) -> None:
    assert world.content("old") == OTHER
    if done:
        assert (status_of(world, "new"), status_of(world, "more")) == (QUEUED, UPLOADING)


def check_repaired(world: World, done: bool) -> None:
    check_put_right(world, done)
    check_scrubbed(world, done)


def make_anew(world: World, service: Service) -> None:
    with service.database.read() as connection:
        lost = is_empty(connection)
    if lost:
        rebuild(service.database, service.stores)


def lose_records(world: World, service: Service) -> None:
    stored(world, service, "old", OTHER)
    stored(world, service, "kept", DATA)
    with service.database.write() as connection:
        for table in ("images", "places", "blobs", "events"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


def check_anew(world: World, done: bool) -> None:
    if done:
        assert (world.content("old"), world.content("kept")) == (OTHER, DATA)


def take_tables_back(world: World, service: Service) -> None:
    """Makes the tables those of the first cowherd that had any."""
    stored(world, service, "old", OTHER)
    with service.database.write() as connection:
        for statement in _BACK:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")


def bring_tables(world: World, service: Service) -> None:
    migrate(service.database)


def check_tables(world: World, done: bool) -> None:
    assert world.content("old") == OTHER
    with contextlib.closing(world.opened()) as database, database.read() as connection:
        assert schema_version(connection) == VERSION


JOBS = (
    Job("upload", lambda world, service: new_image(world, service, "new", DATA), put, check_new),
    Job(
        "upload of known bytes",
        lambda world, service: (stored(world, service, "old", DATA), new_image(world, service, "new", DATA)),
        put,
        check_new,
    ),
    Job("import", lambda world, service: new_image(world, service, "new", DATA), stage_and_import, check_imported),
    Job(
        "import of known bytes",
        lambda world, service: (stored(world, service, "old", DATA), new_image(world, service, "new", DATA)),
        stage_and_import,
        check_imported,
    ),
    Job("converted import", to_be_converted, stage_and_import, check_converted),
    Job("resumable upload", lambda world, service: new_image(world, service, "new", DATA), resume, check_new),
    Job(
        "delete",
        lambda world, service: (stored(world, service, "old", OTHER), stored(world, service, "kept", DATA)),
        delete,
        check_deleted,
    ),
    Job("copy", lambda world, service: stored(world, service, "old", OTHER), copy, check_copied),
    Job("scrub and repair", damaged, scrub, check_scrubbed),
    Job("recovery", left_over, put_right, check_put_right),
    Job("fsck", left_over, repair_all, check_repaired),
    Job("rebuild", lose_records, make_anew, check_anew),
    Job("migration", take_tables_back, bring_tables, check_tables),
)
