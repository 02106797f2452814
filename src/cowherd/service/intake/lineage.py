"""Overlays: a qcow2 image with a binding is taken in if an image that the caller may see has the content that it is bound to.

The name of its backing file is never followed: what it stands on is found by the content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cowherd.errors import CowherdError
from cowherd.formats import registry
from cowherd.service.intake.faults import Refused
from cowherd.service.policy.personas import Caller
from cowherd.service.policy.rules import Verdict, may
from cowherd.service.records.blobs import WHOLE, read_blob
from cowherd.service.records.database import Database
from cowherd.service.records.image import Image
from cowherd.service.records.images import read_image
from cowherd.service.records.lineage import Claim, ancestors, children_of_content, content_of, images_of_content
from cowherd.service.records.members import member_status
from cowherd.service.records.places import places_of
from cowherd.service.records.states import ACTIVE, DEACTIVATED
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

_RANK = {"private": 0, "shared": 1, "community": 2, "public": 3}


class MoreVisible(CowherdError):
    """An overlay would be seen by more than the image that it stands on. Attributes: `child`, `base` (ids of images)."""

    def __init__(self, child: Image, base: Image):
        self.child, self.base, self._visibility = child.id, base.id, (child.visibility, base.visibility)

    def __str__(self) -> str:
        child, base = self._visibility
        return (
            f"Image {self.child} can't be {child}: it stands on image {self.base}, which is {base}. "
            "Make that one as visible first, or this one less"
        )


class Below(NamedTuple):
    """A file that an overlay stands on, and its format."""

    path: Path
    format: str


@dataclass(frozen=True)
class Bases:
    """Finds what overlays stand on, of the images that `caller` may see."""

    database: Database
    stores: Mapping[str, DirectoryStore]
    caller: Caller

    def chain(self, content: str) -> tuple[Below, ...]:
        """Returns the files under an overlay that is bound to a content, the nearest first.

        Raises `Refused` if no image that the caller may see has it, or a store does not have what is under that one.
        """
        with self.database.read() as connection:
            return chain_of(connection, self.stores, self._seen(connection, content)[0])

    def claim(self, connection: Connection, child: Image, content: str) -> Claim:
        """Returns the claim of an overlay that becomes active. Raises `Refused` if its base is gone, `MoreVisible`."""
        seen = self._seen(connection, content)
        base = next((one for one in seen if allows(one, child)), seen[0])
        if not allows(base, child):
            raise MoreVisible(child, base)
        return Claim(child.id, content, base.id, "binding")

    def _seen(self, connection: Connection, content: str) -> list[Image]:
        seen = [one for one in having(connection, content) if self._sees(connection, one)]
        if not seen:
            raise Refused(
                "backing-file", f"it is bound to the content {content}, and you have no image with that: upload it first"
            )
        return seen

    def _sees(self, connection: Connection, image: Image) -> bool:
        lent = member_status(connection, image.id, self.caller.project) is not None
        return may("get_image", self.caller, image, lent=lent) is Verdict.YES


def having(connection: Connection, content: str) -> list[Image]:
    """Returns the images with a content digest that can be stood on, the eldest first.

    An overlay that shows what something under it shows, as a new one does, stands on that content itself, and is none of them.
    """
    found = (read_image(connection, one) for one in images_of_content(connection, content))
    ready = [image for image in found if image.status in (ACTIVE, DEACTIVATED)]
    return [image for image in ready if content not in {claim.base_content for claim in ancestors(connection, image.id)}]


def children_of(connection: Connection, image: Image) -> list[str]:
    """Returns the ids of the overlays that stand on an image, or on another one of the same content."""
    content = content_of(connection, image.id)
    if content is None or image.id not in {one.id for one in having(connection, content)}:
        return []
    return children_of_content(connection, content)


def allows(base: Image, child: Image) -> bool:
    """Returns whether `child` is seen by no more than `base` as far as their visibility and owners tell."""
    if base.visibility == "private" and child.owner != base.owner:
        return False
    return _RANK[child.visibility] <= _RANK[base.visibility]


def chain_of(connection: Connection, stores: Mapping[str, DirectoryStore], image: Image) -> tuple[Below, ...]:
    """Returns the files of an image and of all that it stands on, itself first. Raises `Refused` if one is whole in no store."""
    contents = [claim.base_content for claim in ancestors(connection, image.id)]
    under = [next(iter(having(connection, content)), None) for content in contents]
    return tuple(_below(connection, stores, one) for one in (image, *under))


def _below(connection: Connection, stores: Mapping[str, DirectoryStore], image: Image | None) -> Below:
    blob = None if image is None or image.blob is None else read_blob(connection, image.blob)
    if blob is not None and blob.format in (registry.RAW.name, registry.QCOW2.name):
        for store in _whole_in(connection, stores, blob.digest):
            return Below(store.path(blob.digest), blob.format)
    raise Refused("backing-file", "what it stands on is whole in no store of this service")


def _whole_in(connection: Connection, stores: Mapping[str, DirectoryStore], digest: str) -> Iterator[DirectoryStore]:
    for place in places_of(connection, digest):
        if place.state == WHOLE and place.store in stores:
            yield stores[place.store]
