"""Facts by which an image is found through an index, and how rare they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, func, literal, null, select

from cowherd.service.records.columns import Words
from cowherd.service.records.schema import beginning, images, properties, tags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, ColumnElement, Connection, FromClause, Select, Table

FEW = 1000
"""How many images are read sooner than it pays to look for a better way."""

INDEXED = ("os_hash_value", "checksum", "name", "status")
"""The fields of images that have an index of their own, but for the id."""


class Fact(NamedTuple):
    """That an image has a tag, a property, or one of some values of a field of `INDEXED`: `kind` says which.

    `values` holds the values of which one must match, or a property's name and value.
    """

    kind: str
    values: tuple[Any, ...]


class Index(NamedTuple):
    """What is followed in the order of a page: a table, which of its rows, and its columns that repeat that order."""

    table: Table
    rows: ColumnElement[bool]
    created_at: ColumnElement[Any]
    image_id: ColumnElement[Any]

    def joined(self) -> FromClause:
        """Returns the table with the images that it leads to."""
        return images if self.table is images else self.table.join(images, images.c.id == self.table.c.image_id)


def index_of(fact: Fact) -> Index:
    """Returns the index that leads to the images with a fact."""
    if fact.kind == "tag":
        return Index(tags, tags.c.tag == fact.values[0], tags.c.created_at, tags.c.image_id)
    if fact.kind == "property":
        return Index(properties, _has(*fact.values), properties.c.created_at, properties.c.image_id)
    return Index(images, is_one_of(images.c[fact.kind], fact.values), images.c.created_at, images.c.id)


def count_images(connection: Connection, fact: Fact) -> int:
    """Returns how many images have a fact; the count ends at `FEW`."""
    if fact.kind == "tag":
        return _count(connection, _WITH_TAG, fact.values[0])
    if fact.kind == "property":
        return _count(connection, _WITH_PROPERTY, *fact.values)
    return min(FEW, sum(_count(connection, _WITH[fact.kind], value) for value in fact.values))


def count_rows(connection: Connection, indexes: Iterable[Index]) -> int:
    """Returns how many rows indexes lead to; the count ends at `FEW`."""
    counting = (_counting(index.joined(), index.rows) for index in indexes)
    return min(FEW, sum(connection.execute(one).scalar_one() for one in counting))


def is_one_of(column: ColumnElement[Any], values: tuple[Any, ...]) -> ColumnElement[bool]:
    """Returns the condition that a column has one of some values."""
    return column == values[0] if len(values) == 1 else column.in_(values)


def unindexed(column: Column[Any]) -> ColumnElement[Any]:
    """Returns a column's value in words that no index is on: which index is followed is not left to the database."""
    return func.nullif(column, null(), type_=column.type)


def _has(name: str, value: str) -> ColumnElement[bool]:
    # SQLite would put the plain value into the index's expression as well, and not recognise it any more.
    return and_(_may_have(name, value), unindexed(properties.c.value) == value)


def _may_have(name: Any, value: Any) -> ColumnElement[bool]:
    """Returns the condition of a property as far as its index answers it."""
    return and_(properties.c.name == name, beginning(properties.c.value) == beginning(value))


def _counting(table: FromClause, *conditions: ColumnElement[bool]) -> Select[int]:
    """Returns a query that counts rows of a table, to `FEW`."""
    rows = select(literal(1)).select_from(table).where(*conditions).limit(FEW).subquery()
    return select(func.count()).select_from(rows)


_FIRST, _SECOND = bindparam("first", type_=Words("text")), bindparam("second", type_=Words("text"))
_WITH_TAG = _counting(tags, tags.c.tag == _FIRST)
_WITH_PROPERTY = _counting(properties, _may_have(_FIRST, _SECOND))
_WITH = {name: _counting(images, images.c[name] == _FIRST) for name in INDEXED}


def _count(connection: Connection, counting: Select[int], first: str, second: str | None = None) -> int:
    return connection.execute(counting, {"first": first, "second": second}).scalar_one()
