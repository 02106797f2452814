"""Pages of images: what a caller may see, filtered, sorted, and begun after a marker.

A page is found without reading what isn't on it: one index is followed in the order of the page until the page is full. Which
index that is, the query decides here, not the database, whose guesses differ: that of a rare fact if the caller asks for one (a
name, a hash, a tag, a property); else one for each way in which the caller may see an image (their own, public, lent), merged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, and_, exists, false, func, literal, null, or_, select, true, tuple_, union

from cowherd.errors import InvalidRequest
from cowherd.service.records.faults import MarkerNotFound
from cowherd.service.records.image import Image, images_of
from cowherd.service.records.schema import beginning, images, members, properties, tags

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Select

LONGEST_PAGE = 1000
"""Images that a page has at most."""

CHOICES = frozenset(
    {"name", "id", "status", "container_format", "disk_format", "owner", "protected", "checksum", "os_hash_value"}
)
"""The fields of which a query can list the values it takes."""

RANGES = frozenset({"size", "min_ram", "min_disk"})
"""The fields that a query can bound."""

SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
"""The fields by which a page can be sorted."""

_COMPARISONS = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__", "eq": "__eq__", "neq": "__ne__"}
_ALL = "all"
_Spelling = Callable[[Column[Any]], ColumnElement[Any]]
_RARE = ("id", "os_hash_value", "checksum", "name")


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


class _Index(NamedTuple):
    """What is followed in the order of a page: a table, which of its rows, and its columns that repeat that order."""

    table: Any
    rows: ColumnElement[bool]
    created_at: ColumnElement[Any]
    image_id: ColumnElement[Any]


def page(connection: Connection, query: Query, seen_by: Viewer) -> list[Image]:
    """Returns one page of images, at most `query.limit` and `LONGEST_PAGE`.

    Raises `MarkerNotFound` if the viewer sees no image with the marker's id, `InvalidRequest` for fields that can't be asked for.
    """
    _check(query)
    sort = _complete(query.sort)
    after = _marked(connection, query.marker, sort, seen_by) if query.marker is not None else None
    return images_of(connection, connection.execute(_statement(query, seen_by, sort, after)).all())


def _check(query: Query) -> None:
    asked: list[tuple[str, Iterable[str], Container[str]]] = [
        ("filter", query.choices, CHOICES),
        ("bound", [*query.at_least, *query.at_most], RANGES),
        ("compare times of", [one.comparison for one in query.moments], _COMPARISONS),
        ("sort", [key for key, _ in query.sort], SORT_KEYS),
    ]
    for verb, names, known in asked:
        for name in names:
            if name not in known:
                raise InvalidRequest(f"can't {verb} images by {name!r}")
    if query.limit < 0:
        raise InvalidRequest("a page can't hold fewer than no images")


def _complete(sort: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Returns `sort` with what makes the order of any two images certain."""
    descends = sort[0][1] if len(sort) == 1 else True
    asked = {key for key, _ in sort}
    return [*sort, *((key, descends) for key in ("created_at", "id") if key not in asked)]


def _statement(query: Query, viewer: Viewer, sort: Sequence[tuple[str, bool]], after: Sequence[Any] | None) -> Select[Any]:
    rare = _rare_index(query)
    if rare is not None:
        conditions = [_seen(query, viewer), _unindexed(images.c.os_hidden) == query.os_hidden, *_filters(query)]
        found = [_keys(rare, conditions, query.limit, sort, after)]
    else:
        found = [_keys(way, _filters(query), query.limit, sort, after) for way in _ways(query, viewer)]
    return _images_with(found, query.limit, sort)


def _images_with(found: list[Select[Any]], limit: int, sort: Sequence[tuple[str, bool]]) -> Select[Any]:
    """Returns a query of the first images of those whose keys are found, each once."""
    # A LIMIT may stand in a part of a union only as a query of its own.
    keys = found[0].subquery() if len(found) == 1 else union(*(select(one.subquery()) for one in found)).subquery()
    rows = select(images).select_from(keys.join(images, images.c.id == keys.c.id))
    return rows.order_by(*_order([keys.c[key] for key, _ in sort], sort)).limit(min(limit, LONGEST_PAGE))


def _keys(
    index: _Index,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    sort: Sequence[tuple[str, bool]],
    after: Sequence[Any] | None,
) -> Select[Any]:
    """Returns a query of the sort keys of a page's images that are found through one index."""
    columns = [_sorted_by(index, key) for key, _ in sort]
    table = images if index.table is images else index.table.join(images, images.c.id == index.table.c.image_id)
    rows = select(*(column.label(key) for column, (key, _) in zip(columns, sort, strict=True))).select_from(table)
    rows = rows.where(index.rows, *conditions)
    if after is not None:
        rows = rows.where(_beyond(columns, sort, after))
    return rows.order_by(*_order(columns, sort)).limit(min(limit, LONGEST_PAGE))


def _sorted_by(index: _Index, key: str) -> ColumnElement[Any]:
    if key == "created_at":
        return index.created_at
    if key == "id":
        return index.image_id
    column = images.c[key]
    return func.coalesce(column, -1 if key == "size" else "", type_=column.type) if column.nullable else column


def _order(columns: Sequence[ColumnElement[Any]], sort: Sequence[tuple[str, bool]]) -> list[ColumnElement[Any]]:
    return [column.desc() if descends else column.asc() for column, (_, descends) in zip(columns, sort, strict=True)]


def _beyond(
    columns: Sequence[ColumnElement[Any]], sort: Sequence[tuple[str, bool]], values: Sequence[Any]
) -> ColumnElement[bool]:
    """Returns the condition that a row comes after that with these values."""
    marked = [literal(value, column.type) for value, column in zip(values, columns, strict=True)]
    directions = {descends for _, descends in sort}
    if len(directions) == 1:  # a comparison of rows, which an index can begin with
        left, right = tuple_(*columns), tuple_(*marked)
        return left < right if directions == {True} else left > right
    later = []
    for place, (_, descends) in enumerate(sort):
        equal = [columns[at] == marked[at] for at in range(place)]
        later.append(and_(*equal, columns[place] < marked[place] if descends else columns[place] > marked[place]))
    return or_(*later)


def _marked(connection: Connection, marker: str, sort: Sequence[tuple[str, bool]], viewer: Viewer) -> Sequence[Any]:
    """Returns the sort keys of the image after which a page begins."""
    index = _Index(images, images.c.id == marker, images.c.created_at, images.c.id)
    anything = Query(visibility=_ALL, member_status=_ALL)
    found = connection.execute(_keys(index, [_seen(anything, viewer)], 1, sort, None)).first()
    if found is None:
        raise MarkerNotFound(marker)
    return found


def _ways(query: Query, viewer: Viewer) -> list[_Index]:
    """Returns an index for each way in which the viewer sees images that the query asks for."""
    hidden = images.c.os_hidden == query.os_hidden
    ways = [and_(hidden, way) for way in _open_ways(query, viewer, _plain)]
    found = [_Index(images, way, images.c.created_at, images.c.id) for way in ways]
    if _asks_for_lent(query, viewer):
        lent = and_(_lent(query, viewer), _unindexed(images.c.os_hidden) == query.os_hidden)
        found.append(_Index(members, lent, images.c.created_at, images.c.id))
    return found or [_Index(images, false(), images.c.created_at, images.c.id)]


def _seen(query: Query, viewer: Viewer) -> ColumnElement[bool]:
    """Returns the condition that the viewer sees an image that the query asks for."""
    ways = _open_ways(query, viewer, _unindexed)
    if _asks_for_lent(query, viewer):
        ways.append(exists().where(members.c.image_id == images.c.id, _lent(query, viewer)))
    return or_(false(), *ways)


def _open_ways(query: Query, viewer: Viewer, of: _Spelling) -> list[ColumnElement[bool]]:
    """Returns conditions of which each gives images that the viewer sees without having been lent them."""
    visibility, owner = of(images.c.visibility), of(images.c.owner)
    if viewer.everything:
        return [_everything(query, visibility, [owner == viewer.project] if viewer.project is not None else [])]
    found = [visibility == one for one in ("public", "community") if query.visibility in (one, _ALL)]
    if query.visibility is None:
        found.append(visibility == "public")
    if viewer.project is not None and query.visibility not in ("public", "community"):
        own = owner == viewer.project
        some = query.visibility in (None, _ALL)
        found.append(own if some else and_(own, _unindexed(images.c.visibility) == query.visibility))
    return found


def _everything(query: Query, visibility: ColumnElement[Any], own: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    if query.visibility == _ALL:
        return true()
    return or_(visibility != "community", *own) if query.visibility is None else visibility == query.visibility


def _asks_for_lent(query: Query, viewer: Viewer) -> bool:
    return not viewer.everything and viewer.project is not None and query.visibility in (None, _ALL, "shared")


def _lent(query: Query, viewer: Viewer) -> ColumnElement[bool]:
    lent = and_(members.c.member == viewer.project, _unindexed(images.c.visibility) == "shared")
    return lent if query.member_status == _ALL else and_(lent, members.c.status == query.member_status)


def _rare_index(query: Query) -> _Index | None:
    """Returns the index of the rarest fact that the query asks for, or None if it asks for none of them."""
    for name in _RARE:
        if name in query.choices:
            return _Index(images, _is_one_of(images.c[name], query.choices[name]), images.c.created_at, images.c.id)
    if query.tags:
        return _Index(tags, tags.c.tag == query.tags[0], tags.c.created_at, tags.c.image_id)
    for name, value in query.properties.items():
        return _Index(properties, _has(properties, name, value), properties.c.created_at, properties.c.image_id)
    return None


def _filters(query: Query) -> list[ColumnElement[bool]]:
    """Returns all that a query asks for, in words that no index can answer."""
    found = [_is_one_of(_unindexed(images.c[name]), values) for name, values in query.choices.items()]
    found += [_unindexed(images.c[name]) >= least for name, least in query.at_least.items()]
    found += [_unindexed(images.c[name]) <= most for name, most in query.at_most.items()]
    found += [getattr(_unindexed(images.c[one.field]), _COMPARISONS[one.comparison])(one.when) for one in query.moments]
    for tag in query.tags:
        other = tags.alias()
        found.append(exists().where(other.c.image_id == images.c.id, other.c.tag == tag))
    for name, value in query.properties.items():
        other = properties.alias()
        found.append(exists().where(other.c.image_id == images.c.id, other.c.name == name, other.c.value == value))
    return found


def _has(table: Any, name: str, value: str) -> ColumnElement[bool]:
    # SQLite would put the plain value into the index's expression as well, and not recognise it any more.
    return and_(table.c.name == name, beginning(table.c.value) == beginning(value), _unindexed(table.c.value) == value)


def _is_one_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    return column == values[0] if len(values) == 1 else column.in_(values)


def _plain(column: Column[Any]) -> ColumnElement[Any]:
    return column


def _unindexed(column: Column[Any]) -> ColumnElement[Any]:
    """Returns the same value in words that no index is on: the query decides which index is followed."""
    return func.nullif(column, null(), type_=column.type)
