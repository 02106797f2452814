"""Quotas: what a project may have, what it has, and what its uploads under way have reserved."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import case, delete, func, insert, select

from cowherd.service.records.faults import QuotaExceeded
from cowherd.service.records.schema import images, quotas, uploads
from cowherd.service.records.states import IMPORTING, UPLOADING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


class Resource(StrEnum):
    """What can be bounded."""

    BYTES = "bytes"
    IMAGES = "images"
    UPLOADS = "uploads"


class Usage(msgspec.Struct, frozen=True):
    """What a project has: `bytes` of its images and `reserved` by its uploads, `images`, and `uploads` under way."""

    bytes: int
    reserved: int
    images: int
    uploads: int

    def of(self, resource: Resource) -> int:
        """Returns how much of a resource counts against its quota."""
        counted = {Resource.BYTES: self.bytes + self.reserved, Resource.IMAGES: self.images, Resource.UPLOADS: self.uploads}
        return counted[resource]


def usage_of(connection: Connection, project: str) -> Usage:
    """Returns what a project has now."""
    # What is staged is counted as reserved.
    stored = case((images.c.status.in_([UPLOADING, IMPORTING]), 0), else_=images.c.size)
    size, count = connection.execute(
        select(func.coalesce(func.sum(stored), 0), func.count()).where(images.c.owner == project)
    ).one()
    reserved, under_way = connection.execute(
        select(func.coalesce(func.sum(uploads.c.reserved), 0), func.count()).where(uploads.c.project == project)
    ).one()
    return Usage(int(size), int(reserved), count, under_way)


def set_quota(connection: Connection, project: str, resource: Resource, amount: int | None) -> None:
    """Sets what a project may have of a resource; None leaves that to the default for all projects."""
    connection.execute(delete(quotas).where(quotas.c.project == project, quotas.c.resource == resource))
    if amount is not None:
        connection.execute(insert(quotas), {"project": project, "resource": str(resource), "amount": amount})


def replace_quotas(connection: Connection, amounts: Mapping[tuple[str, Resource], int]) -> None:
    """Sets what projects may have of resources, and nothing else: what was set before is forgotten."""
    connection.execute(delete(quotas))
    for (project, resource), amount in amounts.items():
        set_quota(connection, project, resource, amount)


def quotas_of(connection: Connection, project: str) -> dict[Resource, int]:
    """Returns what was set for a project."""
    asked = select(quotas.c.resource, quotas.c.amount).where(quotas.c.project == project)
    return {Resource(resource): amount for resource, amount in connection.execute(asked)}


def check_quota(
    connection: Connection, project: str | None, asked: Mapping[Resource, int], defaults: Mapping[Resource, int]
) -> None:
    """Makes sure that a project may have so much more as `asked` says, until the transaction of `connection` ends.

    Record in the same transaction what is taken: others who write wait for its end. `defaults` holds for projects for
    which nothing was set; without either there is no bound, as for images of no project. Raises `QuotaExceeded`.
    """
    if project is None:
        return
    limits = {**defaults, **quotas_of(connection, project)}
    bounded = [resource for resource in asked if resource in limits]
    if not bounded:
        return
    usage = usage_of(connection, project)
    for resource in bounded:
        limit, used = limits[resource], usage.of(resource)
        if used + asked[resource] > limit:
            raise QuotaExceeded(project, resource, limit=limit, used=used, asked=asked[resource])
