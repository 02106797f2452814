"""Pushes an image to a service, with what it stands on where the service lacks that."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from cowherd.client.faults import ContentDiffers, ServiceRefused
from cowherd.client.hashing import ALGORITHMS, hash_file
from cowherd.client.sending import Note, Under, begin_upload, send_resumably, send_whole, upload_offset
from cowherd.formats import registry
from cowherd.formats.probe import probe
from cowherd.ops.info import chain_info
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cowherd.client.connection import Service
    from cowherd.progress import Progress

_FORMATS = {"vpc": "vhd", "parallels": "ploop"}
"""What the Image API calls formats that QEMU calls otherwise."""


class Pushed(NamedTuple):
    """An image of a push: its file, its name at the service, its id there (None: it has none yet), its bytes.

    `sent`: it was sent, or would be; otherwise the service had it.
    """

    path: str
    name: str
    image_id: str | None
    size: int
    sent: bool


class _Source(NamedTuple):
    path: str
    format: str
    size: int


def push(
    service: Service,
    path: Path | str,
    *,
    name: str | None = None,
    format: str | None = None,
    visibility: str | None = None,
    dry_run: bool = False,
    progress: Callable[[str], Progress | None] = lambda _: None,
) -> list[Pushed]:
    """Makes the image at `path` an image of the service called `name` (by default as its file); its bases first.

    An image whose bytes the service has already is not sent again. A push that was interrupted goes on where it stopped.
    `progress` gives for a text what is called with (bytes done, bytes in all). Raises `ServiceRefused`, `ServiceUnreachable`,
    `ContentDiffers` if what arrived is not what was read, and what reading the chain raises.
    """
    sources = _sources(os.fspath(path), format)
    done: list[Pushed] = []
    for source in sources:
        wanted = name if source is sources[-1] else None
        done.append(_push_one(service, source, wanted, visibility, dry_run=dry_run, progress=progress))
    return done


def _sources(path: str, format: str | None) -> Sequence[_Source]:
    """Returns the images of a chain, the root first."""
    with HostFile.open(path) as file:
        found, size = format or probe(file), file.size()
    if not registry.named(found).is_known:
        return [_Source(path, _FORMATS.get(found, found), size)]
    chain = []
    for info in reversed(chain_info(path, format=format)):
        with HostFile.open(info.filename) as file:
            chain.append(_Source(info.filename, info.format, file.size()))
    return chain


def _push_one(
    service: Service,
    source: _Source,
    name: str | None,
    visibility: str | None,
    *,
    dry_run: bool,
    progress: Callable[[str], Progress | None],
) -> Pushed:
    called = name or os.path.basename(source.path)
    with HostFile.open(source.path, lock=READ) as file:
        before = _identity(file)
        digests = hash_file(file, progress=progress(f"reading {called}"))
        known = _known(service, digests, name)
        note = Note(service.address, called, digests["sha512"])
        if known and not dry_run:
            note.forget()
        if known or dry_run:
            return Pushed(source.path, called, known, source.size, sent=not known)
        image_id = _send(service, source, called, visibility, file, note, progress(f"sending {called}"))
        changed = _identity(file) != before
    image = service.document("GET", f"/v2/images/{image_id}")
    if changed or not _is_as_sent(image, digests, source.size):
        service.document("DELETE", f"/v2/images/{image_id}")
        raise ContentDiffers(source.path, "it was changed while it was sent; nothing of it was kept at the service")
    return Pushed(source.path, called, image_id, source.size, sent=True)


def _known(service: Service, digests: dict[str, str], name: str | None) -> str | None:
    """Returns the id of an active image with these bytes, called `name` if that is given; None if there is none.

    One of which the service says that something is wrong with it doesn't count: once the bytes came again it is whole as well.
    """
    for algorithm in ALGORITHMS:
        for image in service.images(os_hash_value=digests[algorithm], status="active"):
            if (name is None or image.get("name") == name) and not image.get("cowherd_reason"):
                return str(image["id"])
    return None


def _send(
    service: Service,
    source: _Source,
    name: str,
    visibility: str | None,
    file: HostFile,
    note: Note,
    progress: Progress | None,
) -> str:
    """Sends a file, and returns the id of its image."""
    under = note.read()
    if under is None or upload_offset(service, under.upload) is None:
        properties = {"name": name, "disk_format": source.format, "container_format": "bare"}
        shown_to = {"visibility": visibility} if visibility else {}
        under = Under(str(service.document("POST", "/v2/images", {**properties, **shown_to})["id"]), "")
    try:
        if not under.upload:
            under = Under(under.image_id, begin_upload(service, under.image_id, source.size) or "")
        if under.upload:
            note.write(under)
            send_resumably(service, under.upload, file, progress)
        else:
            send_whole(service, under.image_id, file, progress)
    except ServiceRefused as error:
        note.forget()
        raise _with_reason(service, under.image_id, error) from error
    note.forget()
    return under.image_id


def _with_reason(service: Service, image_id: str, error: ServiceRefused) -> ServiceRefused:
    """Deletes an image that got no content; returns the error with the reason that its record gives, where it gives one."""
    answer = service.ask("GET", f"/v2/images/{image_id}")
    try:
        reason = json.loads(answer.body).get("cowherd_reason") if answer.status == 200 else None
    except ValueError:
        reason = None
    service.ask("DELETE", f"/v2/images/{image_id}")
    return ServiceRefused(error.status, str(reason)) if reason else error


def _is_as_sent(image: dict[str, Any], digests: dict[str, str], size: int) -> bool:
    """Tells whether an image's record is that of the bytes that were read."""
    expected = digests.get(image.get("os_hash_algo") or "")
    if expected is not None and image.get("os_hash_value") != expected:
        return False
    return image.get("status") == "active" and image.get("size") == size


def _identity(file: HostFile) -> tuple[int, int, int]:
    info = os.fstat(file.fd)
    return info.st_ino, info.st_size, info.st_mtime_ns
