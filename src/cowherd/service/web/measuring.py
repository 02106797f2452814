"""Counts a request: of what kind it is, what comes and goes with it, how it ends, and how long it takes."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from cowherd.service import counting
from cowherd.service.web.serving.protocol import ZERO_COPY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OTHER = "other"
_OF_IMAGES = {"file": "download", "stage": "upload", "members": "members"}
_OF_V2 = {"metadefs": "metadefs", "tasks": "tasks"}
_GONE = "gone"


def kind_of(method: str, path: str) -> str:
    """Returns what kind of request it is, as it is counted; of whatever a client may send there are a few."""
    words = [word for word in path.split("/") if word]
    if words[:3] == ["cowherd", "v1", "uploads"]:
        return "resumable"
    if len(words) < 2 or not words[0].startswith("v2"):
        return _OTHER
    if words[1] != "images":
        return _OF_V2.get(words[1], _OTHER)
    if len(words) == 2 and method == "GET":
        return "list"
    if words[3:] == ["file"] and method == "PUT":
        return "upload"
    return _OF_IMAGES.get(words[3], "image") if len(words) > 3 else "image"


class Measured:
    """An ASGI application whose requests are counted."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on to the application. Raises what that raises."""
        kind, began, status = kind_of(scope["method"], scope["path"]), perf_counter(), _GONE

        async def receive_counted() -> Message:
            message = await receive()
            if message.get("body"):
                counting.add(counting.RECEIVED, kind, by=len(message["body"]))
            return message

        async def send_counted(message: Message) -> None:
            nonlocal status
            await send(message)
            if message["type"] == "http.response.start":
                status = f"{message['status'] // 100}xx"
            else:
                counting.add(counting.SENT, kind, by=_length(message))

        counting.add(counting.UNDER_WAY, kind)
        try:
            await self._app(scope, receive_counted, send_counted)
        finally:
            counting.add(counting.UNDER_WAY, kind, by=-1)
            counting.add(counting.REQUESTS, kind, status)
            counting.observe(counting.LASTED, perf_counter() - began, kind)


def _length(message: Message) -> int:
    return int(message["count"]) if message["type"] == ZERO_COPY else len(message.get("body", b""))
