"""The content of an image, given out whole, in ranges, or not at all where the client has it already."""

from __future__ import annotations

import base64
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from cowherd.service.keeping.reading import Reader
from cowherd.service.records.states import ACTIVE, DEACTIVATED
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.web.access import require_image
from cowherd.service.web.call import empty_answer
from cowherd.service.web.images.ranges import wanted_range
from cowherd.service.web.images.remote import RemoteAnswer, open_remote
from cowherd.service.web.operation import BYTES, operation
from cowherd.service.web.serving.files import FileAnswer, PiecesAnswer
from cowherd.service.web.settings import ALWAYS

if TYPE_CHECKING:
    from starlette.responses import Response

    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call

_DIGESTS = {"sha256": "sha-256", "sha512": "sha-512"}


@operation(
    "get_image",
    "download_image",
    gives={BYTES: None},
    query={"prefer": "stores to read from rather, with commas between them"},
    headers={
        "Range": "one range of bytes; Content-Range, as clients of old have it, means the same",
        "If-Range": "an ETag or Last-Modified: if the content is another, all of it is given",
        "If-None-Match": "ETags of what the client has",
        "If-Modified-Since": "when the client got what it has",
    },
    sent={
        "Accept-Ranges": "bytes",
        "Content-Digest": "of all of the content: sha-256 or sha-512, as RFC 9530 has it",
        "Content-MD5": "MD5 of all of the content, in hexadecimal digits as Glance has it",
        "Content-Range": "which bytes of how many, in a 206 and a 416",
        "ETag": "BLAKE3 of the content; of content on the web its os_hash_value",
        "Last-Modified": "when the image was last changed",
    },
    means={
        204: "the image has no content",
        206: "the bytes of the range",
        304: "the client has the content already",
        400: "several ranges are asked for, or the request makes no sense",
        403: "the image is deactivated, or the caller may see it and not download it",
        416: "there is no such range",
        503: "the content is damaged or missing and no other store has it, or the database or the store does not answer now",
    },
)
async def download(call: Call) -> Response:
    """Gives out the content of an image, or a range of it; HEAD only says what it is."""
    return await run_in_threadpool(_open, call)


def _open(call: Call) -> Response:
    with call.service.database.read() as connection:
        image = require_image(call, connection, "get_image")
        require_image(call, connection, "download_image", image)
    preferred = _preferred_stores(call)
    located = bool(image.locations) and image.status in (ACTIVE, DEACTIVATED)
    if image.size is None or (image.blob is None and not located):
        return empty_answer()
    headers = _headers(image)
    if _is_known(call, headers):
        return empty_answer(304, {name: headers[name] for name in ("ETag", "Last-Modified") if name in headers})
    validators = frozenset(headers[name] for name in ("ETag", "Last-Modified") if name in headers)
    wanted = wanted_range(call.request.headers, image.size, validators)
    start, end = wanted or (0, image.size)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{image.size}"
        headers.pop("Content-Digest", None)  # which is that of what is sent, not of the whole
    status = 206 if wanted else 200
    if image.blob is None:
        remote = open_remote(image, Addresses(call.service.settings.import_allowed))
        return RemoteAnswer(remote, image, start, end, status, headers)
    reader = Reader(call.service.database, call.service.stores, image.blob, image.size, preferred)
    if call.service.settings.verify_reads == ALWAYS and call.request.method != "HEAD":
        return PiecesAnswer(reader.pieces(start, end), end - start, status, headers)
    return FileAnswer(reader.open(start, end), start, end - start, status, headers)


def _headers(image: Image) -> dict[str, str]:
    headers = {
        "Content-Type": "application/octet-stream",
        "Last-Modified": format_datetime(image.updated_at, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if image.blob or image.os_hash_value:
        headers["ETag"] = f'"{image.blob or image.os_hash_value}"'
    if image.checksum:
        headers["Content-MD5"] = image.checksum
    if image.os_hash_value and image.os_hash_algo in _DIGESTS:
        digest = base64.b64encode(bytes.fromhex(image.os_hash_value)).decode()
        headers["Content-Digest"] = f"{_DIGESTS[image.os_hash_algo]}=:{digest}:"
    return headers


def _is_known(call: Call, headers: dict[str, str]) -> bool:
    """Tells whether the client says that it has the content already."""
    known = call.header("if-none-match")
    if known is not None:
        tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
        return "*" in tags or headers.get("ETag") in tags
    since = call.header("if-modified-since")
    if since is None:
        return False
    try:
        return parsedate_to_datetime(headers["Last-Modified"]) <= parsedate_to_datetime(since)
    except (ValueError, TypeError):  # a date that is none, or has no zone, asks for nothing
        return False


def _preferred_stores(call: Call) -> list[str]:
    wanted = dict(call.query).get("prefer", "")
    return [name.strip() for name in wanted.split(",") if name.strip()]
