"""What a page of images shall hold, and for whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

CHOICES = frozenset(
    {"name", "id", "status", "container_format", "disk_format", "owner", "protected", "checksum", "os_hash_algo", "os_hash_value"}
)
"""The fields of which a query can list the values it takes."""

RANGES = frozenset({"size", "virtual_size", "min_ram", "min_disk"})
"""The fields that a query can bound."""

SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
"""The fields by which a page can be sorted."""

ALL = "all"
"""As a visibility or a member's status: whatever it is."""


class Viewer(NamedTuple):
    """For whom a page is made: somebody of `project`, or of none; `everything` if images of all projects are seen."""

    project: str | None
    everything: bool = False


class Moment(NamedTuple):
    """A bound on a time: "gt", "gte", "lt", "lte", "eq" or "neq" to `when`."""

    field: Literal["created_at", "updated_at"]
    comparison: str
    when: datetime


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shall hold.

    `choices` gives for a field of `CHOICES` the values of which one must match; `at_least` and `at_most` bound fields of `RANGES`
    (an image without the field does not match). All `tags` and all `properties` must be there. `visibility` is one, or "all";
    without it others' community images are left out. `member_status` says which of the images lent to the project are seen, or
    "all". `sort` holds fields of `SORT_KEYS`, each with whether it descends; without it the newest come first. The page begins
    after the image `marker`.
    """

    choices: dict[str, Sequence[Any]] = {}
    at_least: dict[str, int] = {}
    at_most: dict[str, int] = {}
    moments: Sequence[Moment] = ()
    tags: Sequence[str] = ()
    properties: dict[str, str] = {}
    visibility: str | None = None
    os_hidden: bool = False
    member_status: str = "accepted"
    sort: Sequence[tuple[str, bool]] = ()
    limit: int = 25
    marker: str | None = None
