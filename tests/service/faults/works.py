"""What is asked of the service while something fails, and what must be so afterwards."""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from cowherd.errors import CowherdError
from cowherd.service.keeping.reaper import reap
from cowherd.service.keeping.recovery import recover
from cowherd.service.records.states import ACTIVE, QUEUED, UPLOADING
from cowherd.service.web.service import Service
from tests.service.crashes import jobs
from tests.service.crashes.jobs import new_image, path_of, status_of
from tests.service.crashes.world import DATA, OCTETS, TUS, World, ask, do_tasks

TOLD = (413, 503)
"""The answers that tell of a fault; 500 is none of them."""
DIRECT = {"method": {"name": "glance-direct"}}
_CHUNK = {**TUS, "content-type": "application/offset+octet-stream", "upload-offset": "0"}

Work = Callable[[World, Service], list[int]]
"""Asks for something, in the order in which a client would; returns the statuses up to the first that is an error."""


def put(world: World, service: Service) -> list[int]:
    return [ask(service, "PUT", f"{path_of(world, 'new')}/file", DATA, OCTETS)[0]]


def stage_and_import(world: World, service: Service) -> list[int]:
    path = path_of(world, "new")
    statuses = [ask(service, "PUT", f"{path}/stage", DATA, OCTETS)[0]]
    if statuses[-1] == 204:
        statuses.append(ask(service, "POST", f"{path}/import", DIRECT)[0])
        with contextlib.suppress(CowherdError):  # as a thread of the service, which tells the log and tries again later
            do_tasks(service)
    return statuses


def resume(world: World, service: Service) -> list[int]:
    metadata = f"image_id {base64.b64encode(world.ids['new'].encode()).decode()}"
    given = {"upload-length": str(len(DATA)), "upload-metadata": metadata, **TUS}
    status, headers, _ = ask(service, "POST", "/cowherd/v1/uploads", b"", given)
    if status != 201:
        return [status]
    return [status, ask(service, "PATCH", "/cowherd" + headers["location"].partition("/cowherd")[2], DATA, _CHUNK)[0]]


def read(world: World, service: Service) -> list[int]:
    statuses = []
    for path in (path_of(world, "old"), "/v2/images", f"{path_of(world, 'old')}/file"):
        statuses.append(ask(service, "GET", path)[0])
        if statuses[-1] != 200:
            break
    return statuses


def delete(world: World, service: Service) -> list[int]:
    status = ask(service, "DELETE", path_of(world, "spare"))[0]
    with contextlib.suppress(CowherdError):
        reap(service.database, service.stores, timedelta(0))
    return [status]


def scrub(world: World, service: Service) -> list[int]:
    with contextlib.suppress(CowherdError):
        jobs.scrub(world, service)
    return []


WORKS: tuple[Work, ...] = (put, stage_and_import, resume, read, delete, scrub)


@contextlib.contextmanager
def no_errors_of_its_own() -> Iterator[None]:
    """Fails if the log has an error of the service's own: one with the lines of its code."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    log = logging.getLogger("cowherd.service")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
    assert not [record.getMessage() for record in records if record.exc_info], records[0].exc_info


def require_sense_of(statuses: list[int]) -> None:
    """Requires that each request was done, or told why not."""
    done = {200, 201, 202, 204}
    assert done.issuperset(statuses[:-1]), statuses
    assert done.union(TOLD).issuperset(statuses), statuses


def require_well(world: World, service: Service, statuses: list[int]) -> None:
    """Requires that all is well now that the fault is over: what was acknowledged is there, and the rest can be done again."""
    recover(service.database, service.stores)
    world.restart()
    world.require_sense()
    if status_of(world, "new") == UPLOADING:
        assert ask(service, "DELETE", path_of(world, "new"))[0] == 204
        new_image(world, service, "new", DATA)
    if status_of(world, "new") == QUEUED:
        assert put(world, service) == [204]
    assert status_of(world, "new") == ACTIVE
    assert world.content("old")
    world.require_sense()
