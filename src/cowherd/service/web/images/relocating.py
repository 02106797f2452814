"""Changes of an image's addresses by PATCH. The web is asked first: no transaction waits for a strange server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from cowherd.service.records.image import Location
from cowherd.service.records.states import ACTIVE, QUEUED
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.tasks.fetching import FetchFailed, fetch
from cowherd.service.web.access import require_image
from cowherd.service.web.errors import BadRequest, Conflict, Forbidden, TooLarge
from cowherd.service.web.images.document import locations_of
from cowherd.service.web.images.locations import check_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call
    from cowherd.service.web.images.changes import Change

LOCATIONS = "locations"
_HASHES = ("checksum", "os_hash_algo", "os_hash_value")


def sizes_of_added(call: Call, changes: Sequence[Change]) -> dict[str, int]:
    """Asks for the sizes of the content at the addresses that changes add; returns them by their URLs, in bytes.

    Raises `Forbidden` if addresses can't be changed or the caller may not, `AddressRefused`, `BadRequest` if one can't be read.
    """
    wanted = [change for change in changes if change.name == LOCATIONS]
    if not wanted:
        return {}
    if not call.service.settings.http_store:
        raise Forbidden("It's not allowed to change locations if locations are invisible.")
    with call.service.database.read() as connection:
        image = require_image(call, connection, "get_image")
        require_image(call, connection, "set_image_location", image)
    known = {one["url"] for one in locations_of(image, call.service.settings.http_store)}
    urls = [one["url"] for change in wanted if change.operation != "remove" for one in _values(change)]
    new = [url for url in dict.fromkeys(urls) if url not in known]
    most = call.service.settings.image_location_quota
    if 0 <= most < len(new):
        raise TooLarge(f"The limit has been exceeded on the number of allowed image locations. Maximum: {most}")
    return {url: _size_of(call, url) for url in new}


def with_locations(call: Call, connection: Connection, image: Image, change: Change, sizes: Mapping[str, int]) -> Image:
    """Returns the image with one change of its addresses; a queued one is active with its first. Records nothing.

    Raises `Forbidden`, `BadRequest` for an address that is there or a place that is not, `Conflict` in another state.
    """
    if change.operation == "remove":
        require_image(call, connection, "delete_image_location", image)
        return _without(image, change.rest or "")
    if image.status not in (QUEUED, ACTIVE):
        raise Conflict(f"It's not allowed to change locations if image status is {image.status}.")
    if change.operation == "add":
        return _with(image, change.value, _place(image, change.rest or ""), sizes)
    if not change.value:
        raise Forbidden("It's not allowed to remove all locations of an image.")
    shown = locations_of(image, call.service.settings.http_store)
    return _with_facts(image, change.value, shown) if shown else _with_all(image, change.value, sizes)


def _values(change: Change) -> list[dict[str, Any]]:
    return list(change.value) if change.rest is None else [change.value]


def _size_of(call: Call, url: str) -> int:
    try:
        with fetch(url, Addresses(call.service.settings.import_allowed)) as fetched:
            length = fetched.length
    except FetchFailed as error:
        raise BadRequest(str(error)) from error
    if length is None:
        raise BadRequest(f"The server of {url} does not say how long the content is.")
    return length


def _place(image: Image, text: str) -> int:
    """Reads where among the addresses on the web one is to be; those in stores come before them."""
    last = len(image.stores) + len(image.locations)
    if text == "-":
        return len(image.locations)
    if not text.isdecimal() or not text.isascii() or int(text) > last:
        raise BadRequest(f"Invalid position for adding a location: {text}.")
    return max(0, int(text) - len(image.stores))


def _with(image: Image, value: Mapping[str, Any], place: int, sizes: Mapping[str, int]) -> Image:
    added = _location(value)
    if added in image.locations:
        raise BadRequest(f"The location {added.url} exists already.")
    stated = value.get("validation_data", {})
    if image.status == QUEUED:
        check_hash(stated)
        facts = {name: stated[name] for name in _HASHES if name in stated}
        image = replace(image, status=ACTIVE, size=sizes.get(added.url), **facts)
    for name in stated:
        if stated[name] != getattr(image, name):
            raise Conflict(f"{name} of the location differs from that of the image.")
    return replace(image, locations=(*image.locations[:place], added, *image.locations[place:]))


def _with_all(image: Image, values: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]) -> Image:
    for value in values:
        image = _with(image, value, len(image.locations), sizes)
    return image


def _with_facts(image: Image, values: Sequence[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]]) -> Image:
    """Returns the image with the same addresses, and what is said of them changed."""
    if [one["url"] for one in values] != [one["url"] for one in shown]:
        raise BadRequest("The locations of an image that has some are not replaced by others. Add and remove them one by one.")
    return replace(image, locations=tuple(map(_location, values[len(image.stores) :])))


def _without(image: Image, text: str) -> Image:
    place = int(text) - len(image.stores) if text.isdecimal() and text.isascii() else len(image.locations)
    if place >= len(image.locations):
        raise BadRequest(f"There is no location {text}.")
    if place < 0:
        raise Forbidden("Content in a store is deleted by DELETE /v2/stores/{store}/{id}.")
    if len(image.stores) + len(image.locations) == 1:
        raise Forbidden("The last location of an image can't be removed. Delete the image instead.")
    return replace(image, locations=(*image.locations[:place], *image.locations[place + 1 :]))


def _location(value: Mapping[str, Any]) -> Location:
    # The name of the store is said of every location, by the service.
    return Location(value["url"], {name: one for name, one in value["metadata"].items() if name != "store"})
