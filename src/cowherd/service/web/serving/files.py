"""Answers whose body is content: a range of an open file, or parts that are made one after the other."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from cowherd.service.web.serving.protocol import ZERO_COPY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import Receive, Scope, Send

_PIECE = 1 << 20


class FileAnswer(Response):
    """Sends `count` bytes of a file from `start`, without a copy where the server can. Closes the descriptor in any case."""

    def __init__(self, descriptor: int, start: int, count: int, status: int, headers: Mapping[str, str]):
        super().__init__(None, status, {**headers, "content-length": str(count)})
        self._descriptor, self._start, self._count = descriptor, start, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, as an ASGI application. Raises `OSError` if the file can't be read or ends too early."""
        with os.fdopen(self._descriptor, "rb", buffering=0) as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD" or not self._count:
                await send({"type": "http.response.body", "body": b""})
            elif ZERO_COPY in scope.get("extensions", {}):
                await send({"type": ZERO_COPY, "file": file, "offset": self._start, "count": self._count})
            else:
                await self._send_pieces(send)

    async def _send_pieces(self, send: Send) -> None:
        offset, end = self._start, self._start + self._count
        while offset < end:
            piece = await run_in_threadpool(os.pread, self._descriptor, min(_PIECE, end - offset), offset)
            if not piece:
                raise OSError(errno.EIO, f"a file ended after {offset} bytes")
            offset += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": offset < end})


class PiecesAnswer(Response):
    """Sends `count` bytes that `pieces` gives in parts. The first part is made before the answer begins.

    So an error at the first one can still be told in an answer; a later one ends the connection.
    """

    def __init__(self, pieces: Iterator[bytes], count: int, status: int, headers: Mapping[str, str]):
        super().__init__(None, status, {**headers, "content-length": str(count)})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, as an ASGI application. Raises what `pieces` raises."""
        piece = await run_in_threadpool(next, self._pieces, b"")
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while piece:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await run_in_threadpool(next, self._pieces, b"")
        await send({"type": "http.response.body", "body": b""})
