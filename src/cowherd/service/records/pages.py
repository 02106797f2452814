"""Pages of images: what a caller may see, filtered, sorted, and begun after a marker.

A page is found without reading what isn't on it: one index is followed in the order of the page until the page is full. Which
index that is, is decided here by counting, not by the database, whose guesses differ: that of the rarest fact that is asked for
(a name, a hash, a tag, a property), or one for each way in which the caller may see an image (their own, public, lent), merged.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import and_, bindparam, exists, func, or_, select, tuple_, union

from cowherd.errors import InvalidRequest
from cowherd.service.records.facts import FEW, INDEXED, Fact, Index, count_images, count_rows, index_of, is_one_of, unindexed
from cowherd.service.records.faults import MarkerNotFound
from cowherd.service.records.image import Image, images_of, select_images
from cowherd.service.records.query import ALL, CHOICES, RANGES, SORT_KEYS, Moment, Query, Viewer
from cowherd.service.records.schema import images, properties, tags
from cowherd.service.records.sight import seen, ways

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection, Select

__all__ = ["LONGEST_PAGE", "RANGES", "SORT_KEYS", "Moment", "Query", "Viewer", "page"]

LONGEST_PAGE = 1000
"""Images that a page has at most."""

_COMPARISONS = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__", "eq": "__eq__", "neq": "__ne__"}


def page(connection: Connection, query: Query, seen_by: Viewer) -> list[Image]:
    """Returns one page of images, at most `query.limit` and `LONGEST_PAGE`.

    Raises `MarkerNotFound` if the viewer sees no image with the marker's id, `InvalidRequest` for fields that can't be asked for.
    """
    _check(query)
    marked = _marked(connection, query, seen_by) if query.marker is not None else ()
    # A query is asked again and again: by those who wait for an image, and page after page with another marker.
    asked = msgspec.msgpack.encode(msgspec.structs.replace(query, marker=None))
    statement = _statement(asked, seen_by, _followed(connection, query, seen_by), bool(marked))
    return images_of(connection.execute(statement, {f"after_{place}": value for place, value in enumerate(marked)}))


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


def _followed(connection: Connection, query: Query, viewer: Viewer) -> Fact | None:
    """Returns the fact whose index is to be followed, or None if all that the viewer sees is."""
    if "id" in query.choices:
        return Fact("id", tuple(query.choices["id"]))
    facts = [Fact(name, tuple(query.choices[name])) for name in INDEXED if name in query.choices]
    facts += [Fact("tag", (tag,)) for tag in query.tags]
    facts += [Fact("property", item) for item in query.properties.items()]
    if not facts:
        return None
    count, rarest = min(((count_images(connection, fact), fact) for fact in facts), key=itemgetter(0))
    # A common fact is worth following unless the viewer sees so little that all of it is read sooner.
    if count < FEW or count_rows(connection, ways(query, viewer)) == FEW:
        return rarest
    return None


@lru_cache(maxsize=128)
def _statement(asked: bytes, viewer: Viewer, followed: Fact | None, is_marked: bool) -> Select[Any]:
    """Returns the query of a page, with the sort keys of the image that it begins after as parameters if `is_marked`."""
    query = msgspec.msgpack.decode(asked, type=Query)
    page = _Page(_complete(query.sort), is_marked, min(query.limit, LONGEST_PAGE))
    if followed is None:
        keys = [page.keys(way, _filters(query)) for way in ways(query, viewer)]
    else:
        conditions = [seen(query, viewer), unindexed(images.c.os_hidden) == query.os_hidden, *_filters(query)]
        keys = [page.keys(index_of(followed), conditions)]
    return page.images(keys)


def _complete(sort: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Returns `sort` with what makes the order of any two images certain."""
    descends = sort[0][1] if len(sort) == 1 else True
    asked = {key for key, _ in sort}
    return [*sort, *((key, descends) for key in ("created_at", "id") if key not in asked)]


class _Page(NamedTuple):
    """How a page is sorted: by which keys, each with whether it descends; whether it begins after an image; how long it is."""

    sort: list[tuple[str, bool]]
    is_marked: bool
    limit: int

    def keys(self, index: Index, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
        """Returns a query of the sort keys of the images that are found through one index."""
        columns = [_sorted_by(index, key) for key, _ in self.sort]
        named = [column.label(key) for column, (key, _) in zip(columns, self.sort, strict=True)]
        rows = select(*named).select_from(index.joined()).where(index.rows, *conditions)
        if self.is_marked:
            rows = rows.where(_beyond(columns, [descends for _, descends in self.sort]))
        return rows.order_by(*self._order(columns)).limit(self.limit)

    def images(self, found: list[Select[Any]]) -> Select[Any]:
        """Returns a query of the first images of those whose keys are found, each once."""
        # A LIMIT may stand in a part of a union only as a query of its own.
        keys = found[0].subquery() if len(found) == 1 else union(*(select(one.subquery()) for one in found)).subquery()
        rows = select_images(keys.join(images, images.c.id == keys.c.id))
        return rows.order_by(*self._order([keys.c[key] for key, _ in self.sort])).limit(self.limit)

    def _order(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        pairs = zip(columns, self.sort, strict=True)
        return [column.desc() if descends else column.asc() for column, (_, descends) in pairs]


def _sorted_by(index: Index, key: str) -> ColumnElement[Any]:
    if key == "created_at":
        return index.created_at
    if key == "id":
        return index.image_id
    column = images.c[key]
    return func.coalesce(column, -1 if key == "size" else "", type_=column.type) if column.nullable else column


def _beyond(columns: Sequence[ColumnElement[Any]], descends: Sequence[bool]) -> ColumnElement[bool]:
    """Returns the condition that a row comes after that with the values of the parameters `after_0`, `after_1`..."""
    marked = [bindparam(f"after_{place}", type_=column.type) for place, column in enumerate(columns)]
    if len(set(descends)) == 1:  # a comparison of rows, which an index can begin with
        left, right = tuple_(*columns), tuple_(*marked)
        return left < right if descends[0] else left > right
    later = []
    for place, falls in enumerate(descends):
        equal = [columns[at] == marked[at] for at in range(place)]
        later.append(and_(*equal, columns[place] < marked[place] if falls else columns[place] > marked[place]))
    return or_(*later)


def _marked(connection: Connection, query: Query, viewer: Viewer) -> Sequence[Any]:
    """Returns the sort keys of the image after which a page begins."""
    marker = query.marker or ""
    statement = _marker_statement(tuple(query.sort), viewer)
    found = connection.execute(statement, {"marker": marker}).first()
    if found is None:
        raise MarkerNotFound(marker)
    return found


@lru_cache(maxsize=128)
def _marker_statement(sort: tuple[tuple[str, bool], ...], viewer: Viewer) -> Select[Any]:
    index = Index(images, images.c.id == bindparam("marker"), images.c.created_at, images.c.id)
    anything = Query(visibility=ALL, member_status=ALL)
    return _Page(_complete(sort), is_marked=False, limit=1).keys(index, [seen(anything, viewer)])


def _filters(query: Query) -> list[ColumnElement[bool]]:
    """Returns all that a query asks for, in words that no index can answer."""
    found = [is_one_of(unindexed(images.c[name]), tuple(values)) for name, values in query.choices.items()]
    found += [unindexed(images.c[name]) >= least for name, least in query.at_least.items()]
    found += [unindexed(images.c[name]) <= most for name, most in query.at_most.items()]
    found += [getattr(unindexed(images.c[one.field]), _COMPARISONS[one.comparison])(one.when) for one in query.moments]
    for tag in query.tags:
        other = tags.alias()
        found.append(exists().where(other.c.image_id == images.c.id, other.c.tag == tag))
    for name, value in query.properties.items():
        other = properties.alias()
        found.append(exists().where(other.c.image_id == images.c.id, other.c.name == name, other.c.value == value))
    return found
