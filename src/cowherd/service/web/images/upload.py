"""The content of an image, taken in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from cowherd.service.intake.lineage import Bases
from cowherd.service.intake.upload import Upload
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.web.access import require_image
from cowherd.service.web.audit import author_of
from cowherd.service.web.call import ClientGone, empty_answer, whole_number
from cowherd.service.web.errors import BadRequest, BodyStalled, Gone, UnsupportedMedia
from cowherd.service.web.feeding import feed_body
from cowherd.service.web.operation import BYTES, operation

if TYPE_CHECKING:
    from starlette.responses import Response

    from cowherd.service.intake.arriving import Intake
    from cowherd.service.intake.staging import Staging
    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call

_CONTENT = "application/octet-stream"
STORE_HEADER = "x-image-meta-store"
UPLOAD_HEADERS = {
    "Content-Type": _CONTENT,
    "x-openstack-image-size": "how many bytes will come",
    STORE_HEADER: "the store that is to have them",
}


@operation(
    "upload_image",
    takes={BYTES: None},
    headers=UPLOAD_HEADERS,
    means={
        400: "another length than was announced, an unknown store, no formats, or a signature that is not of the content",
        409: "the image is not queued, or is an overlay that would be more visible than its base",
        410: "the image was deleted during the upload",
        413: "the content is larger than is allowed, than the quota, or than the room in the store",
        415: "the content is refused: the answer names the check; or the body is not application/octet-stream",
    },
)
async def upload(call: Call) -> Response:
    """Takes the content of a queued image, which is active when the answer is given."""
    require_content(call)
    length = announced_bytes(call)
    begun = await run_in_threadpool(_begin, call, length)
    await receive(call, begun)
    return empty_answer()


def require_content(call: Call) -> None:
    """Raises `UnsupportedMedia` unless the body is said to be bytes of any kind."""
    kind = (call.header("content-type") or "").partition(";")[0].strip()
    if kind != _CONTENT:
        raise UnsupportedMedia(f"Invalid content type {kind or 'None'}: content is sent as {_CONTENT}")


def announced_bytes(call: Call) -> int | None:
    """Returns how many bytes the request says that it sends, None if it does not say. Raises `BadRequest`."""
    stated = call.header("x-openstack-image-size")
    if stated is not None:
        return whole_number(stated, "The header x-openstack-image-size")
    return call.declared_bytes or None


def intake_of(call: Call) -> Intake:
    """Returns where the content goes, by the request's headers and the settings. Raises `BadRequest` for an unknown store."""
    stores = call.service.stores
    name = call.header(STORE_HEADER) or call.service.default_store
    if name not in stores:
        raise BadRequest(f"The store '{name}' is not configured. There are: {', '.join(stores)}.")
    return intake_into(call, name)


def intake_into(call: Call, store: str) -> Intake:
    """Returns where content of the caller's goes that is put into a store; overlays may stand on what the caller may see."""
    service = call.service
    bases = Bases(service.database, service.stores, call.caller)
    return replace(service.intakes(store), bases=bases, author=author_of(call))


def require_formats(image: Image) -> None:
    """Raises `BadRequest` if an image does not say of what format its content is to be."""
    missing = [name for name in ("disk_format", "container_format") if not getattr(image, name)]
    if missing:
        raise BadRequest(f"Properties {', '.join(missing)} must be set prior to saving data.")


async def receive(call: Call, begun: Upload | Staging) -> None:
    """Feeds the body to an upload, and finishes it. Whatever goes wrong, the upload is over when this raises."""
    try:
        await feed_body(call, begun.feed)
        await run_in_threadpool(begun.finish)
    except ImageNotFound as error:
        raise Gone(f"Image {begun.record.image_id} was deleted during the upload; nothing of what came is kept.") from error
    except (ClientGone, BodyStalled) as error:
        await run_in_threadpool(begun.abandon, _why_ended(begun, error))
        raise
    except BaseException:
        # The service is being ended, and waits for nothing more. An upload that ended by itself is over already.
        begun.abandon("The service was ended during the upload. Upload the image again")
        raise


def _begin(call: Call, length: int | None) -> Upload:
    intake = intake_of(call)
    with call.service.database.read() as connection:
        image = require_image(call, connection, "upload_image")
    if image.status == "queued":
        require_formats(image)
    return Upload.begin(intake, image, length)


def _why_ended(begun: Upload | Staging, error: Exception) -> str:
    announced = "" if begun.record.length is None else f" of {begun.record.length}"
    how = "The client sent nothing more" if isinstance(error, BodyStalled) else "The client went away"
    return f"{how} after {begun.received}{announced} bytes. Upload the image again"
