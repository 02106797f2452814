"""Sends the bytes of a file for an image: resumably where the service can (tus 1.0), in one request where it can't.

What is under way is noted in this host's state, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from cowherd.client.faults import ServiceRefused, ServiceUnreachable, refusal
from cowherd.errors import HostFileError
from cowherd.storage.atomic import write_atomically
from cowherd.storage.state import state_directories

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable, Iterator

    from cowherd.client.connection import Service
    from cowherd.progress import Progress
    from cowherd.storage.hostfile import HostFile

UPLOADS = "/cowherd/v1/uploads"
FINISH_SECONDS = 3600.0
"""How long the service may take to hash and inspect what came, before it answers."""
RETRIES = 8
"""How often in a row a connection may break with nothing sent."""
_BLOCK = 1 << 20
_TUS = {"Tus-Resumable": "1.0.0"}
_NOTED = "pushes"
_PASSING = (408, 409, 423)
"""Statuses of a moment: nothing came for a while, the offset has moved, another connection is still bringing bytes."""


class Under(NamedTuple):
    """A push under way: the image that it is for, and the path of its upload."""

    image_id: str
    upload: str


class Note:
    """What this host knows of a push under way, of bytes with the digest `sha512` to a service, as `name`."""

    def __init__(self, address: str, name: str, sha512: str):
        name = hashlib.sha256(f"{address}\n{name}\n{sha512}".encode("utf-8", "surrogateescape")).hexdigest()
        self._path = next((Path(one) / _NOTED / name for one in state_directories()), None)

    def read(self) -> Under | None:
        """Returns the push, None if none is known."""
        try:
            return Under(**json.loads(self._path.read_bytes())) if self._path else None
        except (OSError, ValueError, TypeError):  # none was written, or not by this version: the push begins anew
            return None

    def write(self, under: Under) -> None:
        """Notes a push. Raises `HostFileError`."""
        if self._path:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise HostFileError(self._path.parent, "make", error) from error
            write_atomically(self._path, json.dumps(under._asdict()).encode(), 0o600)

    def forget(self) -> None:
        """Forgets the push, which has ended. Raises `HostFileError`."""
        if self._path:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise HostFileError(self._path, "remove", error) from error


def begin_upload(service: Service, image_id: str, size: int) -> str | None:
    """Begins a resumable upload for an image; returns its path, None if the service has no such uploads.

    Raises `ServiceRefused`, `ServiceUnreachable`.
    """
    metadata = f"image_id {base64.b64encode(image_id.encode()).decode()}"
    answer = service.ask("POST", UPLOADS, headers={**_TUS, "Upload-Length": str(size), "Upload-Metadata": metadata})
    if answer.status in (300, 404, 405) and "tus-resumable" not in answer.headers:
        return None
    if answer.status != 201:
        raise refusal(answer.status, answer.body)
    path = urlsplit(answer.headers.get("location", "")).path
    return path[path.find(UPLOADS) :]


def upload_offset(service: Service, upload: str) -> int | None:
    """Returns where an upload goes on, None if the service knows it no more. Raises `ServiceUnreachable`, `ServiceRefused`."""
    answer = service.ask("HEAD", upload, headers=_TUS)
    if answer.status in (404, 410):
        return None
    if answer.status != 200:
        raise refusal(answer.status, answer.body)
    return int(answer.headers["upload-offset"])


def send_resumably(
    service: Service,
    upload: str,
    file: HostFile,
    progress: Progress | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Sends a file's bytes from where the upload goes on, over as many connections as it takes.

    Raises `ServiceRefused` if the service wants no more, `ServiceUnreachable` after `RETRIES` in a row without progress.
    """
    failed, before = 0, -1
    while True:
        try:
            offset = upload_offset(service, upload)
            if offset is None:
                raise ServiceRefused(404, "the upload was ended by the service")
            failed, before = (0 if offset > before else failed), offset
            _append(service, upload, file, offset, progress)
            return
        except ServiceUnreachable:
            failed += 1
            if failed > RETRIES:
                raise
            pause(min(2.0**failed / 4, 30.0))


def _append(service: Service, upload: str, file: HostFile, offset: int, progress: Progress | None) -> None:
    """Sends the rest of a file. Raises `ServiceUnreachable` also for what may go better when it is tried again."""
    headers = {**_TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    status, body = send(service, "PATCH", upload, headers, file, offset, progress)
    if status in _PASSING or status >= 500:
        raise ServiceUnreachable(service.address, refusal(status, body).problem)
    if status not in (204, 410):  # 410: it was complete already, and the answer that said so was lost
        raise refusal(status, body)


def send_whole(service: Service, image_id: str, file: HostFile, progress: Progress | None) -> None:
    """Sends a file in one request. Raises `ServiceRefused`, `ServiceUnreachable`."""
    headers = {"Content-Type": "application/octet-stream"}
    status, body = send(service, "PUT", f"/v2/images/{image_id}/file", headers, file, 0, progress)
    if status >= 300:
        raise refusal(status, body)


def send(
    service: Service, method: str, path: str, headers: dict[str, str], file: HostFile, offset: int, progress: Progress | None
) -> tuple[int, bytes]:
    """Sends the bytes of a file from `offset` on as a body; returns the status and the body of the answer."""
    size = file.size()
    with service.opened(FINISH_SECONDS) as connection:
        connection.putrequest(method, service.path(path))
        for name, value in {**headers, **service.headers(), "Content-Length": str(size - offset)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        try:
            for block in _blocks(file, offset, size, progress):
                connection.send(block)
        except (BrokenPipeError, ConnectionResetError):
            return _early_answer(connection)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _early_answer(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    """Returns the answer that a service gave before it had all, and closed. Raises OSError if it gave none."""
    answer = connection.getresponse()
    return answer.status, answer.read()


def _blocks(file: HostFile, offset: int, size: int, progress: Progress | None) -> Iterator[bytes]:
    for begin in range(offset, size, _BLOCK):
        yield file.pread(begin, min(_BLOCK, size - begin))
        if progress:
            progress(min(begin + _BLOCK, size), size)
