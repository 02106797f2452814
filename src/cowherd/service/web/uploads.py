"""Resumable uploads of images, by the protocol tus 1.0 (https://tus.io/protocols/resumable-upload).

    POST    /cowherd/v1/uploads                         Upload-Metadata: image_id BASE64; the image waits for content
    HEAD    /cowherd/v1/uploads/{image_id}/{upload_id}  where the upload goes on
    PATCH                                               appends bytes there; the last ones make the image active
    DELETE                                              ends the upload; its image is queued again

Extensions: creation, expiration, checksum, termination.
"""

from __future__ import annotations

import base64
import functools
import inspect
import time
from email.utils import format_datetime
from typing import TYPE_CHECKING, TypeVar, cast

from starlette.concurrency import run_in_threadpool

from cowherd.service.intake.adoption import BECAME_ACTIVE
from cowherd.service.intake.resumable import RESUMABLE, Checksum, Resumable, begin_resumable, end_resumable
from cowherd.service.records.events import list_events
from cowherd.service.records.image import now
from cowherd.service.records.uploads import UploadRecord, read_upload
from cowherd.service.web.access import require_image
from cowherd.service.web.call import ClientGone, empty_answer, whole_number
from cowherd.service.web.errors import (
    BadRequest,
    BodyStalled,
    Gone,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    TooLarge,
    UnsupportedMedia,
)
from cowherd.service.web.faults import web_error_of
from cowherd.service.web.feeding import feed_body
from cowherd.service.web.images.upload import STORE_HEADER, intake_into, intake_of, require_formats
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.tus import EXPIRES, SHOWN, STATUSES, TUS, VERSION
from cowherd.service.web.versions import base_url
from cowherd.stores.faults import StillArriving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.intake.arriving import Intake
    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call
    from cowherd.service.web.routing import Handler

_T = TypeVar("_T")

PATH = "/cowherd/v1/uploads"
PATIENCE_SECONDS = 5.0
"""How long a request waits for the end of another one on the same upload: the end of a connection shows a moment later."""
_PAUSE_SECONDS = 0.02
_EXTENSIONS = "creation,expiration,checksum,termination"
_NOT_SPOKEN = ("Upload-Defer-Length", "Upload-Concat")
"""Headers without which an upload would not be what its client takes it for."""
_CHECKSUMS = ("sha1", "md5", "sha256", "sha512")
_CHUNK = "application/offset+octet-stream"
_UPLOADED = (BECAME_ACTIVE, "image.upload")
"""The actions of events that name an upload which ended well. Earlier versions recorded the second one."""
_TERMINATED = "The upload was ended by its client. Upload the image again"
_EXPIRED = "The upload waited too long for its next bytes, and was ended. Upload the image again"


def _tus(handler: Handler) -> Callable[[Call], Awaitable[Response]]:
    """Makes a handler speak the protocol: its version is asked for, and told with every answer."""

    @functools.wraps(handler)
    async def speaking(call: Call) -> Response:
        try:
            _require_version(call)
            if inspect.iscoroutinefunction(handler):
                answer = await handler(call)
            else:
                answer = await run_in_threadpool(handler, call)
        except Exception as error:
            told = web_error_of(error)
            if told is None:
                raise
            told.headers.setdefault("Tus-Resumable", VERSION)
            raise told from error
        answer.headers["Tus-Resumable"] = VERSION
        return cast("Response", answer)

    return speaking


def _require_version(call: Call) -> None:
    if call.header("tus-resumable") != VERSION:
        raise PreconditionFailed(f"The header Tus-Resumable must be {VERSION}.", {"Tus-Version": VERSION})


@operation(
    sent={
        **TUS,
        "Tus-Version": "the version of the protocol",
        "Tus-Extension": "the extensions that there are",
        "Tus-Max-Size": "the largest content",
        "Tus-Checksum-Algorithm": "the hashes of Upload-Checksum",
    }
)
def describe(call: Call) -> Response:
    """Tells what of the protocol there is."""
    headers = {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": _EXTENSIONS,
        "Tus-Max-Size": str(call.service.settings.image_size_cap),
        "Tus-Checksum-Algorithm": ",".join(_CHECKSUMS),
    }
    return empty_answer(204, headers)


@operation(
    "upload_image",
    status=201,
    headers={
        **TUS,
        "Upload-Length": "how many bytes will come",
        "Upload-Metadata": "image_id with the id of an image that waits for content, in base64",
        STORE_HEADER: "the store that is to have it",
    },
    sent={**TUS, "Location": "the address of the upload", "Upload-Offset": "0", **EXPIRES},
    means={
        412: STATUSES[412],
        400: "no length, no image, an unknown store, or an image without formats",
        403: "the caller may see the image and not do this",
        404: "there is no such image, or the caller may not see it",
        409: "the image is not queued",
        413: "the content is larger than is allowed, than the quota, or than the room in the store",
        415: "the content is empty and refused: the answer names the check",
    },
)
@_tus
def create(call: Call) -> Response:
    """Begins an upload for an image that waits for content."""
    for name in _NOT_SPOKEN:
        if call.header(name) is not None:
            raise BadRequest(f"The header {name} belongs to an extension that there is not; there are {_EXTENSIONS}.")
    text = call.header("upload-length")
    if text is None:
        raise BadRequest("The header Upload-Length must say how many bytes will come.")
    length = whole_number(text, "The header Upload-Length")
    metadata = call.header("upload-metadata") or ""
    image_id = _metadata(metadata).get("image_id", "")
    call.request.scope["path_params"] = {"image_id": image_id}
    with call.service.database.read() as connection:
        image = require_image(call, connection, "upload_image")
    if image.status == "queued":
        require_formats(image)
    record = begin_resumable(intake_of(call), image, length, {"metadata": metadata})
    if length == 0:
        _end_request(call, _patiently(lambda: call.service.sessions.take(_intake(call, record), image, record, 0)))
    location = f"{base_url(call)}{PATH}/{image.id}/{record.id}"
    return empty_answer(201, {"Location": location, "Upload-Offset": "0", **_expiry(record)})


@operation(
    "upload_image",
    status=200,
    headers=TUS,
    sent=SHOWN,
    means={**STATUSES, 404: "there is no such image or upload, or the caller may not see it", 410: "the upload has ended"},
)
@_tus
def show(call: Call) -> Response:
    """Tells where an upload goes on."""
    image, record = _find(call)
    if record is not None:
        _wait_until_idle(call, record)
        image, record = _find(call)
    headers = {"Cache-Control": "no-store"}
    if record is None:
        size = str(image.size or 0)
        return empty_answer(200, {**headers, "Upload-Offset": size, "Upload-Length": size})
    if record.details.get("metadata"):
        headers["Upload-Metadata"] = record.details["metadata"]
    headers |= {"Upload-Offset": str(record.offset), "Upload-Length": str(record.length), **_expiry(record)}
    return empty_answer(200, headers)


@operation(
    "upload_image",
    takes={_CHUNK: None},
    headers={
        **TUS,
        "Upload-Offset": "where the bytes belong: at the durable offset",
        "Upload-Checksum": "a hash of the body, as in sha256 BASE64; without a match nothing of it is kept",
    },
    sent={**TUS, "Upload-Offset": "how many bytes are durable", **EXPIRES},
    means={
        **STATUSES,
        400: "a header makes no sense, or all came and the image's signature is not of it",
        404: "there is no such image or upload, or the caller may not see it",
        409: "the upload goes on at another offset, or the image is an overlay that would be more visible than its base",
        410: "the upload has ended, or its image was deleted",
        413: "more bytes than were announced, or than there is room for",
        415: "all came and is refused: the answer names the check; or the body is of another kind",
        460: "the body has another checksum",
    },
)
@_tus
async def append(call: Call) -> Response:
    """Appends the body to an upload. With the last byte the image becomes active, before the answer is given."""
    if (call.header("content-type") or "").partition(";")[0].strip() != _CHUNK:
        raise UnsupportedMedia(f"Bytes of an upload are sent as {_CHUNK}.")
    offset = whole_number(call.header("upload-offset") or "", "The header Upload-Offset")
    session = await run_in_threadpool(_begin, call, offset, _checksum(call))
    try:
        await feed_body(call, session.append)
    except (ClientGone, BodyStalled):
        await run_in_threadpool(_rest, call, session)
        raise
    except BaseException:
        # Something failed, or the service is being ended, and waits for nothing more. What came so far is kept.
        _rest(call, session)
        raise
    return await run_in_threadpool(_end_request, call, session)


@operation(
    "upload_image",
    headers=TUS,
    sent=TUS,
    means={**STATUSES, 404: "there is no such image or upload, or the caller may not see it", 410: "the upload has ended"},
)
@_tus
def end(call: Call) -> Response:
    """Ends an upload; nothing of it is kept."""
    _, record = _find(call)
    if record is None:
        raise Gone("The upload has ended, and its image is active.")
    _end_waiting(call, record, _TERMINATED, "image.upload-end")
    return empty_answer()


@operation(
    "upload_image",
    takes={_CHUNK: None},
    headers={**TUS, "X-HTTP-Method-Override": "PATCH, DELETE or HEAD"},
    sent=SHOWN,
    means={
        200: "as HEAD answers",
        **STATUSES,
        404: "there is no such image or upload, or the caller may not see it",
        405: "no such method is named",
        409: "as PATCH answers",
        410: "the upload has ended, or its image was deleted",
        413: "as PATCH answers",
        415: "as PATCH answers",
        460: "as PATCH answers",
    },
)
async def override(call: Call) -> Response:
    """Does what another method does, for clients that can't send it."""
    handlers = {"PATCH": append, "DELETE": end, "HEAD": show}
    method = call.header("x-http-method-override") or ""
    if method not in handlers:
        raise MethodNotAllowed("The header X-HTTP-Method-Override must name a method.", {"Allow": ", ".join(handlers)})
    return await handlers[method](call)


def _find(call: Call) -> tuple[Image, UploadRecord | None]:
    """Returns the image and the upload that the path names; no upload if it has made the image active.

    Raises `NotFound`, and `Gone` for one that waited too long: it is ended.
    """
    upload_id = call.names["upload_id"]
    with call.service.database.read() as connection:
        image = require_image(call, connection, "upload_image")
        record = read_upload(connection, upload_id)
        done = list_events(connection, image_id=image.id, actions=_UPLOADED) if record is None else []
    if any(event.detail.get("upload") == upload_id for event in done):
        return image, None
    if record is None or record.image_id != image.id or record.kind != RESUMABLE:
        raise NotFound("There is no such upload. Begin another one")
    if record.expires_at < now():
        _end_waiting(call, record, _EXPIRED)
        raise Gone(_EXPIRED)
    return image, record


def _begin(call: Call, offset: int, checksum: Checksum | None) -> Resumable:
    image, record = _find(call)
    if record is None:
        raise Gone("The upload has ended, and its image is active.")
    length = record.length or 0
    if offset + (call.declared_bytes or 0) > length:
        raise TooLarge(f"The upload has {length} bytes, and these would go beyond.")
    return _patiently(lambda: call.service.sessions.take(_intake(call, record), image, record, offset, checksum))


def _rest(call: Call, session: Resumable) -> None:
    """Keeps what came of a request that did not end well."""
    if not session.is_over:
        session.keep(whole=False)
        call.service.sessions.give_back(session)


def _end_request(call: Call, session: Resumable) -> Response:
    try:
        session.keep(whole=True)
        if session.is_complete:
            session.finish()
    finally:
        call.service.sessions.give_back(session)
    expiry = {} if session.is_complete else _expiry(session.record)
    return empty_answer(204, {"Upload-Offset": str(session.durable), **expiry})


def _end_waiting(call: Call, record: UploadRecord, reason: str, action: str | None = None) -> None:
    call.service.sessions.forget(record.id)
    _patiently(lambda: end_resumable(_intake(call, record), record, reason, action))


def _wait_until_idle(call: Call, record: UploadRecord) -> None:
    """Waits until no request brings bytes, so that the offset that is told lasts. Raises `StillArriving`."""
    store = _intake(call, record).store

    def require_idle() -> None:
        if store.is_held(record.temporary or ""):
            raise StillArriving(store.name, record.temporary or "")

    _patiently(require_idle)


def _patiently(attempt: Callable[[], _T]) -> _T:
    """Tries again for a while what another request is in the way of. Raises `StillArriving`, and what the attempt raises."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return attempt()
        except StillArriving:
            if time.monotonic() > ends:
                raise
        time.sleep(_PAUSE_SECONDS)


def _intake(call: Call, record: UploadRecord) -> Intake:
    if record.store not in call.service.stores:
        raise Gone(f"The store '{record.store}' is not configured any more. Begin another upload")
    return intake_into(call, record.store)


def _expiry(record: UploadRecord) -> dict[str, str]:
    return {"Upload-Expires": format_datetime(record.expires_at, usegmt=True)}


def _checksum(call: Call) -> Checksum | None:
    """Reads the checksum of the body. Raises `BadRequest`."""
    text = call.header("upload-checksum")
    if text is None:
        return None
    algorithm, _, digest = text.partition(" ")
    if algorithm not in _CHECKSUMS:
        raise BadRequest(f"The header Upload-Checksum names none of {', '.join(_CHECKSUMS)}.")
    return Checksum(algorithm, _decoded(digest, "Upload-Checksum"))


def _metadata(text: str) -> dict[str, str]:
    """Reads pairs of a key and a value in base64, with commas between. Raises `BadRequest`."""
    pairs = (pair.strip().partition(" ") for pair in text.split(",") if pair.strip())
    return {key: _decoded(value, "Upload-Metadata").decode("utf-8", "replace") for key, _, value in pairs}


def _decoded(text: str, header: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError as error:  # binascii.Error is one, and so is what is no ASCII
        raise BadRequest(f"The header {header} holds {text!a}, which is no base64.") from error


ROUTES: list[Route] = [
    resource(PATH, OPTIONS=describe, POST=create),
    resource(f"{PATH}/{{image_id}}/{{upload_id}}", OPTIONS=describe, HEAD=show, PATCH=append, DELETE=end, POST=override),
]
