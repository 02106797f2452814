"""Lineage: which image is an overlay of which base.

A base is known by its content: images of one content stand in for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from sqlalchemy import insert, select, update

from cowherd.service.records.schema import blobs, images, lineage

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Claim(msgspec.Struct, frozen=True):
    """The image `child` is an overlay of what has the content digest `base_content`: of the image `base`, if that is known.

    A binding in the child's header says so, or a statement of its owner's.
    """

    child: str
    base_content: str
    base: str | None
    claim: Literal["binding", "statement"]


def record_base(connection: Connection, claim: Claim) -> None:
    """Records of what an image is an overlay; it has no record of that yet."""
    connection.execute(insert(lineage), msgspec.structs.asdict(claim))


def base_of(connection: Connection, image_id: str) -> Claim | None:
    """Returns of what an image is an overlay, or None."""
    row = connection.execute(select(lineage).where(lineage.c.child == image_id)).first()
    return None if row is None else Claim(**row._asdict())


def ancestors(connection: Connection, image_id: str) -> list[Claim]:
    """Returns the claims from an image to its root, its own first."""
    found: list[Claim] = []
    seen = {image_id}
    claim = base_of(connection, image_id)
    while claim is not None:
        found.append(claim)
        if claim.base is None or claim.base in seen:  # statements could contradict each other
            break
        seen.add(claim.base)
        claim = base_of(connection, claim.base)
    return found


def content_of(connection: Connection, image_id: str) -> str | None:
    """Returns the content digest of an image, or None if it has none."""
    asked = select(blobs.c.content_digest).join(images, images.c.blob == blobs.c.digest).where(images.c.id == image_id)
    content: str | None = connection.execute(asked).scalar()
    return content


def images_of_content(connection: Connection, content: str) -> list[str]:
    """Returns the ids of all images with a content digest, the eldest first."""
    asked = select(images.c.id).join(blobs, images.c.blob == blobs.c.digest).where(blobs.c.content_digest == content)
    return list(connection.execute(asked.order_by(images.c.created_at, images.c.id)).scalars())


def children_of_content(connection: Connection, content: str) -> list[str]:
    """Returns the ids of the images that are overlays of a content, the eldest first."""
    asked = select(images.c.id).join(lineage, lineage.c.child == images.c.id).where(lineage.c.base_content == content)
    return list(connection.execute(asked.order_by(images.c.created_at, images.c.id)).scalars())


def set_base(connection: Connection, child: str, base: str | None) -> None:
    """Records which image an overlay stands on, of those with the content that its claim names; None if it is not known."""
    connection.execute(update(lineage).where(lineage.c.child == child).values(base=base))
