"""What surrounds the images of a page: what they stand on, what stands on them, who shares their bytes, and where those are.

Each question is asked once for all images of the page, whatever their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import func, select

from cowherd.service.records.image import Image, images_of, select_images
from cowherd.service.records.places import Place, places_of_all
from cowherd.service.records.query import ALL, Query, Viewer
from cowherd.service.records.schema import blobs, images, lineage, members
from cowherd.service.records.sight import seen

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

MOST_UNDER = 200
"""How many images are looked up at most of what those of a page stand on."""
_ANYTHING = Query(visibility=ALL, member_status=ALL)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """`under` holds the images that others stand on and the viewer sees, `above` by ids how many overlays stand on a content.

    `sharing` tells by blobs how many images have it, `members` by ids with how many projects an image is shared, `places` by
    blobs where its bytes are.
    """

    under: list[Image]
    above: dict[str, int]
    sharing: dict[str, int]
    members: dict[str, int]
    places: dict[str, list[Place]]


def surroundings(connection: Connection, page: Sequence[Image], viewer: Viewer) -> Surroundings:
    """Returns what surrounds the images of a page; of what they stand on, at most `MOST_UNDER` images."""
    under = _under(connection, [one.id for one in page], viewer)
    found = [*page, *under]
    ids, digests = [one.id for one in found], {one.blob for one in found if one.blob is not None}
    return Surroundings(
        under=under,
        above=_above(connection, ids),
        sharing=_sharing(connection, digests),
        members=_members(connection, ids),
        places=places_of_all(connection, digests),
    )


def overlays_on(connection: Connection, content: str, viewer: Viewer, limit: int) -> list[Image]:
    """Returns at most `limit` images that stand on a content and the viewer sees, the eldest of those first."""
    found = select(lineage.c.child).where(lineage.c.base_content == content)
    asked = select_images().where(images.c.id.in_(found), seen(_ANYTHING, viewer)).limit(limit)
    return sorted(images_of(connection.execute(asked)), key=lambda one: (one.created_at, one.id))


def names_of(connection: Connection, image_ids: Collection[str]) -> dict[str, str | None]:
    """Returns the names of images by their ids; those that are gone are left out."""
    asked = select(images.c.id, images.c.name).where(images.c.id.in_(sorted(image_ids)))
    return {row[0]: row[1] for row in connection.execute(asked)}


def _under(connection: Connection, image_ids: Collection[str], viewer: Viewer) -> list[Image]:
    """Returns what images stand on, and what that stands on, without those images themselves."""
    step = select(lineage.c.base).where(lineage.c.child.in_(image_ids), lineage.c.base.is_not(None))
    chain = step.cte("chain", recursive=True)
    # A union holds each image once, so that claims which contradict each other come to an end.
    chain = chain.union(select(lineage.c.base).join(chain, lineage.c.child == chain.c.base).where(lineage.c.base.is_not(None)))
    wanted = select(chain.c.base).where(chain.c.base.not_in(image_ids)).limit(MOST_UNDER).subquery()
    asked = select_images(wanted.join(images, images.c.id == wanted.c.base)).where(seen(_ANYTHING, viewer))
    return images_of(connection.execute(asked.order_by(images.c.created_at, images.c.id)))


def _above(connection: Connection, image_ids: Collection[str]) -> dict[str, int]:
    contents = select(images.c.id, blobs.c.content_digest).join(blobs, images.c.blob == blobs.c.digest)
    # An overlay that shows what its base does, as a new one, has the same content, and nothing stands on it for that.
    itself = select(lineage.c.child).where(lineage.c.child == images.c.id, lineage.c.base_content == blobs.c.content_digest)
    having = contents.where(images.c.id.in_(image_ids), blobs.c.content_digest.is_not(None), ~itself.exists()).subquery()
    asked = select(having.c.id, func.count()).join(lineage, lineage.c.base_content == having.c.content_digest)
    return {row[0]: row[1] for row in connection.execute(asked.group_by(having.c.id))}


def _sharing(connection: Connection, digests: Collection[str]) -> dict[str, int]:
    asked = select(images.c.blob, func.count()).where(images.c.blob.in_(sorted(digests))).group_by(images.c.blob)
    return {digest: count for digest, count in connection.execute(asked) if digest is not None}


def _members(connection: Connection, image_ids: Collection[str]) -> dict[str, int]:
    asked = select(members.c.image_id, func.count()).where(members.c.image_id.in_(image_ids)).group_by(members.c.image_id)
    return {row[0]: row[1] for row in connection.execute(asked)}
