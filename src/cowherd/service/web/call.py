"""One request, with all that a handler needs to answer it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response

from cowherd.service.records.tasks import Task
from cowherd.service.web.errors import BadRequest, BodyStalled, TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

    from cowherd.service.web.service import Service
    from cowherd.storage.hostfile import Buffer

MOST_DOCUMENT_BYTES = 4 << 20
"""The largest body of a request that is a document, not content: as large as 128 properties and tags can make it, with room."""
SILENCE_SECONDS = 60.0
"""How long a body may deliver nothing."""
_BODIES = frozenset(("chunked", "compress", "deflate", "gzip", "identity"))


class ClientGone(Exception):
    """The client closed the connection before it had sent all. Nobody is there to be told."""


@dataclass
class Call:
    """A request under way: what was asked, who asks, and the service that is asked."""

    service: Service
    request: Request
    request_id: str
    caller: Any = None
    body: bytes = field(default=b"", repr=False)
    """The body, for handlers that take it whole."""

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The parts of the path that the route leaves open."""
        return self.request.path_params

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The parameters of the query, in order. Raises `BadRequest` if one is no UTF-8."""
        # A semicolon parts parameters as well: older forms of HTML wrote them so.
        text = self.request.scope["query_string"].decode("latin-1").replace(";", "&")
        parameters = parse_qsl(text, keep_blank_values=True)
        if any("\ufffd" in name or "\ufffd" in value for name, value in parameters):
            raise BadRequest("The query contains characters that are no UTF-8.")
        return parameters

    def header(self, name: str) -> str | None:
        """Returns a header of the request."""
        return self.request.headers.get(name)

    @property
    def declared_bytes(self) -> int | None:
        """The length that the request states for its body. Raises `BadRequest` if it is none."""
        text = self.header("content-length")
        return None if text is None else whole_number(text, "The header Content-Length")

    @property
    def has_body(self) -> bool:
        """Whether the request comes with a body."""
        coded = (self.header("transfer-encoding") or "").lower() in _BODIES
        return (coded and self.request.method in ("POST", "PUT", "PATCH")) or bool(self.declared_bytes)

    def document(self) -> Any:
        """Returns the JSON object or list that the body is. Raises `BadRequest`."""
        if not self.has_body:
            raise BadRequest("Body expected in request.")
        try:
            document = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRequest(f"Malformed JSON in request body: {error}") from error
        if not isinstance(document, dict | list):
            raise BadRequest("Unexpected body type. Expected list/dict.")
        return document

    async def read_document(self) -> None:
        """Reads the whole body. Raises `TooLarge`, `BodyStalled`, `ClientGone`."""
        parts = []
        total = 0
        if (self.declared_bytes or 0) > MOST_DOCUMENT_BYTES:
            raise TooLarge(f"A document may have at most {MOST_DOCUMENT_BYTES} bytes.")
        async for part in self.parts():
            total += len(part)
            if total > MOST_DOCUMENT_BYTES:
                raise TooLarge(f"A document may have at most {MOST_DOCUMENT_BYTES} bytes.")
            parts.append(part)
        self.body = b"".join(parts)

    async def parts(self) -> AsyncIterator[Buffer]:
        """Gives the body as it comes. Raises `BodyStalled` when nothing comes, `ClientGone` when nobody is there."""
        more = True
        while more:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await self.request.receive()
            except TimeoutError as error:
                raise BodyStalled(
                    f"Nothing of the body came for {SILENCE_SECONDS:.0f} seconds.", {"connection": "close"}
                ) from error
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]


def whole_number(text: str, what: str) -> int:
    """Reads a number of bytes or things. Raises `BadRequest`, which calls it `what`, unless it is decimal digits."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise BadRequest(f"{what} must be a whole number of at most 19 digits.")
    return int(text)


def new_task(call: Call, kind: str, image_id: str | None, given: dict[str, Any], progress: dict[str, Any] | None = None) -> Task:
    """Returns a task of the caller's, of type `kind`, that works on an image with the input `given`; nothing records it yet."""
    return Task(
        id=str(uuid.uuid4()),
        type=kind,
        owner=call.caller.project,
        user_id=call.caller.user,
        request_id=call.request_id,
        image_id=image_id,
        input=given,
        progress=progress or {},
    )


def document_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an answer with a JSON document."""
    return Response(msgspec.json.encode(document), status, headers, "application/json")


def empty_answer(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an answer without a body."""
    return Response(None, status, headers)
