"""Fetches the content of an image into an unfinished file, from where an earlier run stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cowherd.client.faults import ContentDiffers, ServiceRefused, ServiceUnreachable, refusal
from cowherd.client.hashing import Digests, feed
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import is_there
from cowherd.stores.incoming import Incoming

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cowherd.client.connection import Service
    from cowherd.progress import Progress

RETRIES = 8
"""How often in a row a connection may break with nothing fetched."""
_BLOCK = 1 << 20
_ANY_HASH = "sha512"


def fetch(
    service: Service,
    image: dict[str, Any],
    path: Path,
    progress: Progress | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Makes `path` a durable file with the content of `image`, verified by the hash in its record. What is there goes on.

    Raises `ContentDiffers`, and nothing is left then; `ServiceRefused`, `ServiceUnreachable` after `RETRIES` in a row without
    progress, `HostFileError`; what came stays for the next time.
    """
    file = HostFile.open(path, writable=True, lock=None, follow=False) if is_there(path) else _create(path)
    with Incoming(path.name, file, min(file.size(), image["size"])) as incoming:
        algorithm = image.get("os_hash_algo") or _ANY_HASH
        digests = Digests((algorithm,))
        feed(digests, file, incoming.offset)
        _fetch_rest(service, image, incoming, digests, progress, pause)
        incoming.sync()
    found = digests.finish()[algorithm]
    if found != image.get("os_hash_value", found):
        path.unlink()
        raise ContentDiffers(
            str(image.get("name") or image["id"]),
            f"what came has not the {algorithm} of its record; nothing of it was kept",
        )


def _create(path: Path) -> HostFile:
    return HostFile.create(path, exclusive=True, lock=None)


def _fetch_rest(
    service: Service,
    image: dict[str, Any],
    incoming: Incoming,
    digests: Digests,
    progress: Progress | None,
    pause: Callable[[float], None],
) -> None:
    failed = 0
    while incoming.offset < image["size"]:
        before = incoming.offset
        try:
            _fetch_some(service, image, incoming, digests, progress)
        except ServiceUnreachable:
            failed = 0 if incoming.offset > before else failed + 1
            if failed > RETRIES:
                raise
            pause(min(2.0**failed / 4, 30.0))


def _fetch_some(service: Service, image: dict[str, Any], incoming: Incoming, digests: Digests, progress: Progress | None) -> None:
    """Fetches what one connection gives. Raises `ServiceUnreachable` if it breaks."""
    headers = {"Range": f"bytes={incoming.offset}-"} if incoming.offset else {}
    with service.opened() as connection:
        connection.request("GET", service.path(f"/v2/images/{image['id']}/file"), headers={**service.headers(), **headers})
        answer = connection.getresponse()
        if answer.status != (206 if headers else 200):
            raise refusal(answer.status, answer.read())
        while block := answer.read(_BLOCK):
            if incoming.offset + len(block) > image["size"]:
                raise ServiceRefused(answer.status, "more bytes came than the image has")
            incoming.append(block)
            digests.update(block)
            if progress:
                progress(incoming.offset, image["size"])
        if incoming.offset < image["size"]:
            raise ServiceUnreachable(service.address, f"the connection ended after {incoming.offset} of {image['size']} bytes")
