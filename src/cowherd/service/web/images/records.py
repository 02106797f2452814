"""The records of images: made, listed, shown, changed and deleted."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from cowherd.service.intake.resumable import RESUMABLE
from cowherd.service.intake.staging import STAGE
from cowherd.service.records.events import was_deleted
from cowherd.service.records.faults import ImageExists, MarkerNotFound, Unstorable
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status, create_image, delete_image, is_known, read_image, update_image
from cowherd.service.records.pages import page
from cowherd.service.records.quotas import Resource, check_quota
from cowherd.service.records.uploads import list_uploads
from cowherd.service.web.access import PUBLISHING, require, require_for_new, require_image, viewer
from cowherd.service.web.audit import note
from cowherd.service.web.call import document_answer, empty_answer
from cowherd.service.web.errors import Forbidden, TooLarge
from cowherd.service.web.images.changes import NEWER, OLDER, parse_changes
from cowherd.service.web.images.document import image_document, path_of
from cowherd.service.web.images.editing import apply_changes
from cowherd.service.web.images.lineage import release_children, require_visibility
from cowherd.service.web.images.listing import FILTERS, links, parse_query
from cowherd.service.web.images.properties import new_image_values
from cowherd.service.web.images.relocating import sizes_of_added
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.versions import base_url

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.records.query import Query
    from cowherd.service.web.call import Call
    from cowherd.service.web.settings import Settings


@operation(
    "add_image",
    *PUBLISHING.values(),
    takes="new image",
    gives="image",
    status=201,
    means={
        403: "a property is read-only or reserved, or the caller may not make such an image",
        409: "there is an image of this id, or there was",
        413: "there are more properties or tags than are allowed, or the project has no images left in its quota",
    },
    sent={
        "Location": "the address of the record",
        "OpenStack-image-import-methods": "the ways to import",
        "OpenStack-image-store-ids": "the stores",
    },
)
def create(call: Call) -> Response:
    """Makes the record of a new image."""
    image = new_image(call, call.document())
    with call.service.database.write() as connection:
        image = record_image(call, connection, image)
    headers = {
        "Location": base_url(call) + path_of(image.id),
        "OpenStack-image-import-methods": ",".join(call.service.settings.import_methods),
        "OpenStack-image-store-ids": ",".join([*call.service.stores, *filter(None, [call.service.settings.http_store])]),
    }
    return document_answer(image_document(call, image), 201, headers)


def new_image(call: Call, document: Any) -> Image:
    """Returns the image that a document asks for. Raises as `new_image_values`, `require_for_new` and `check_quotas`."""
    base, others = new_image_values(document)
    base.setdefault("owner", call.caller.project)
    image_id = base.pop("id", None) or str(uuid.uuid4())
    tags = tuple(dict.fromkeys(base.pop("tags", ())))
    image = Image(id=image_id, properties=others, tags=tags, **base)
    require_for_new(call, image)
    check_quotas(call.service.settings, image)
    return image


def record_image(call: Call, connection: Connection, image: Image) -> Image:
    """Records a new image, and returns it.

    Raises `ImageExists` if there is one of its id, or was, `QuotaExceeded`, `Unstorable`.
    """
    if was_deleted(connection, image.id):
        raise ImageExists(image.id)
    check_quota(connection, image.owner, {Resource.IMAGES: 1}, call.service.intakes(call.service.default_store).quotas)
    create_image(connection, image)
    note(call, connection, "image.create", image.id, name=image.name, visibility=image.visibility)
    return read_image(connection, image.id)


@operation(
    "get_images",
    gives="images",
    query=FILTERS,
    means={
        400: "a filter, an order or a marker makes no sense",
        403: "the caller may not list images, or not see that of the marker",
    },
)
def index(call: Call) -> Response:
    """Shows a page of the images that the caller may see."""
    require(call, "get_images")
    settings = call.service.settings
    query = parse_query(call.query, settings.limit_param_default, settings.api_limit_max)
    with call.service.database.read() as connection:
        images = _page(call, connection, query)
    after = images[-1].id if images and len(images) == query.limit else None
    return document_answer(
        {
            "images": [image_document(call, image) for image in images],
            **links("/v2/images", call.query, after),
            "schema": "/v2/schemas/images",
        }
    )


def _page(call: Call, connection: Connection, query: Query) -> list[Image]:
    try:
        return page(connection, query, viewer(call))
    except Unstorable:  # as no image can have what is asked for, none has
        return []
    except MarkerNotFound as error:
        if not is_known(connection, error.marker):
            raise
        raise Forbidden("You are not authorized to see the image after which the page begins.") from error


@operation("get_image", gives="image")
def show(call: Call) -> Response:
    """Shows one image."""
    with call.service.database.read() as connection:
        image = require_image(call, connection, "get_image")
    return document_answer(image_document(call, image))


@operation(
    "get_image",
    "modify_image",
    *PUBLISHING.values(),
    "set_image_location",
    "delete_image_location",
    takes={NEWER: "changes", OLDER: "older changes"},
    gives="image",
    means={
        403: "a property is read-only, reserved or settled, or the caller may see the image and not change it like this",
        409: "a property is not there, or is there already; an overlay would be more visible than its base; somebody was faster",
        413: "there are more properties, tags or locations than are allowed, or the body is larger than is taken",
        415: "the body is of another kind than Accept-Patch names",
    },
)
def update(call: Call) -> Response:
    """Changes properties of an image."""
    changes = parse_changes(call.header("content-type") or "", call.document)
    sizes = sizes_of_added(call, changes)
    with call.service.database.write() as connection:
        image = require_image(call, connection, "get_image")
        changed = apply_changes(call, connection, image, changes, sizes)
        if changed != image:
            check_quotas(call.service.settings, changed)
            require_visibility(connection, image, changed)
            status, changed = changed.status, update_image(connection, changed)
            if status != image.status:
                change_status(connection, image.id, {image.status}, status)
                changed = read_image(connection, image.id)
            note(call, connection, "image.update", image.id, changed=sorted({change.name for change in changes}))
    return document_answer(image_document(call, changed))


@operation(
    "delete_image",
    means={403: "the image is protected, or the caller may see it and not delete it", 409: "other images stand on it"},
)
def delete(call: Call) -> Response:
    """Deletes an image. Its bytes go later, if no other image has them."""
    with call.service.database.write() as connection:
        image = require_image(call, connection, "delete_image")
        if image.protected:
            raise Forbidden(f"Image {image.id} is protected and cannot be deleted.")
        staged = [one for one in list_uploads(connection, image_id=image.id) if one.kind in (STAGE, RESUMABLE)]
        release_children(call, connection, image)
        delete_image(connection, image.id)
        note(call, connection, "image.delete", image.id, name=image.name, blob=image.blob)
    for one in staged:
        store = call.service.stores.get(one.store)
        call.service.sessions.forget(one.id)
        if store and one.temporary and not store.is_held(one.temporary):  # what still arrives is ended by who takes it
            store.discard(one.temporary)
    return empty_answer()


def check_quotas(settings: Settings, image: Image) -> None:
    """Raises `TooLarge` if an image has more properties or tags than is allowed."""
    for what, count, most in (
        ("properties", len(image.properties), settings.image_property_quota),
        ("tags", len(image.tags), settings.image_tag_quota),
        ("locations", len(image.locations), settings.image_location_quota),
    ):
        if 0 <= most < count:
            raise TooLarge(
                f"The limit has been exceeded on the number of allowed image {what}. Attempted: {count}, Maximum: {most}"
            )


ROUTES: list[Route] = [
    resource("/v2/images", GET=index, POST=create),
    resource("/v2/images/{image_id}", GET=show, PATCH=update, DELETE=delete),
]
