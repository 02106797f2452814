"""An answer whose body lies at another address, and is passed on as it comes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from cowherd.service.tasks.addresses import AddressRefused
from cowherd.service.tasks.fetching import Fetched, FetchFailed, fetch
from cowherd.service.web.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from cowherd.service.records.image import Image
    from cowherd.service.tasks.addresses import Addresses


class Remote(NamedTuple):
    """Content at an address that has begun to come. `stack` ends it."""

    fetched: Fetched
    stack: contextlib.ExitStack


def open_remote(image: Image, addresses: Addresses) -> Remote:
    """Opens the first of an image's addresses whose content is as long as it was. Raises `Unavailable` if there is none."""
    problem = "none of them has it"
    for location in image.locations:
        with contextlib.ExitStack() as stack:
            try:
                fetched = stack.enter_context(fetch(location.url, addresses))
            except (AddressRefused, FetchFailed) as error:
                problem = str(error)
                continue
            if fetched.length in (None, image.size):
                return Remote(fetched, stack.pop_all())
            problem = f"{location.url} has {fetched.length} bytes now, and had {image.size}"
    raise Unavailable(f"The content of image {image.id} can't be read from its locations: {problem}.")


class RemoteAnswer(Response):
    """Sends bytes `start` to `end` of what is remote. The whole is held against the image's hash before its last block goes."""

    def __init__(self, remote: Remote, image: Image, start: int, end: int, status: int, headers: Mapping[str, str]):
        super().__init__(None, status, {**headers, "content-length": str(end - start)})
        self._remote, self._image, self._start, self._end = remote, image, start, end
        self._whole = (start, end) == (0, image.size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, as an ASGI application. Raises `OSError` if the content is not what it was, `FetchFailed`."""
        with self._remote.stack:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            last = b"" if scope["method"] == "HEAD" else await self._send_all_but_last(send)
            await send({"type": "http.response.body", "body": last})

    async def _send_all_but_last(self, send: Send) -> bytes:
        algorithm = self._image.os_hash_algo if self._whole else None
        hashed = hashlib.new(algorithm) if algorithm else None
        offset, held, blocks = 0, b"", self._remote.fetched.blocks()
        while offset < self._end and (block := await run_in_threadpool(next, blocks, b"")):
            if hashed:
                hashed.update(block)
            if held:
                await send({"type": "http.response.body", "body": held, "more_body": True})
            held = block[max(0, self._start - offset) : self._end - offset]
            offset += len(block)
        if offset < self._end or (hashed and hashed.hexdigest() != self._image.os_hash_value):
            raise OSError(errno.EIO, "what lies at the image's location is not what it was")
        return held
