"""Metadata definitions: the vocabulary for properties of images. One table holds namespaces and all that is in them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import and_, delete, insert, or_, select, tuple_, update

from cowherd.service.records.faults import DefinitionExists, DefinitionNotFound
from cowherd.service.records.image import Moment, now
from cowherd.service.records.schema import metadefs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from cowherd.service.records.query import Viewer


class Kind(StrEnum):
    """What is defined. A namespace stands in itself, a type of resources in none: "" is its namespace."""

    NAMESPACE = "namespace"
    OBJECT = "object"
    PROPERTY = "property"
    TAG = "tag"
    RESOURCE_TYPE = "resource type"
    ASSOCIATION = "association"


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A definition: its `body` is what the Image API shows of it, without names. Only namespaces have owner and visibility."""

    kind: str
    namespace: str
    name: str
    owner: str | None = None
    visibility: str | None = None
    body: dict[str, Any] = {}
    created_at: Moment = msgspec.field(default_factory=now)
    updated_at: Moment = msgspec.field(default_factory=now)


_COLUMNS = [metadefs.c[name] for name in Definition.__struct_fields__]


def property_body(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the document of a property as it is kept: a number as its default becomes text, as Glance has it."""
    default = document.get("default")
    numeric = isinstance(default, int | float) and not isinstance(default, bool)
    return {**document, "default": str(default)} if numeric else document


def create_definition(connection: Connection, definition: Definition) -> None:
    """Records a definition. Raises `DefinitionExists`, `DefinitionNotFound` if its namespace is not there, `Unstorable`."""
    kind, namespace, name = definition.kind, definition.namespace, definition.name
    if kind not in (Kind.NAMESPACE, Kind.RESOURCE_TYPE):
        read_definition(connection, Kind.NAMESPACE, namespace, namespace)
    _check_free(connection, kind, namespace, name)
    connection.execute(insert(metadefs), {**msgspec.structs.asdict(definition), "kind": str(kind)})


def read_definition(connection: Connection, kind: str, namespace: str, name: str) -> Definition:
    """Returns a definition. Raises `DefinitionNotFound`."""
    row = connection.execute(select(*_COLUMNS).where(_one(kind, namespace, name))).first()
    if row is None:
        raise DefinitionNotFound(kind, namespace, name)
    return Definition(**row._asdict())


def is_defined(connection: Connection, definition: Definition) -> bool:
    """Returns whether there is a definition of the same kind and name."""
    return _is_taken(connection, definition.kind, definition.namespace, definition.name)


def all_definitions(connection: Connection) -> list[Definition]:
    """Returns all definitions, by their kinds, namespaces and names."""
    asked = select(*_COLUMNS).order_by(metadefs.c.kind, metadefs.c.namespace, metadefs.c.name)
    return [Definition(**row._asdict()) for row in connection.execute(asked)]


def list_definitions(connection: Connection, kind: str, namespace: str) -> list[Definition]:
    """Returns the definitions of a kind in a namespace, by their names."""
    asked = select(*_COLUMNS).where(metadefs.c.kind == str(kind), metadefs.c.namespace == namespace).order_by(metadefs.c.name)
    return [Definition(**row._asdict()) for row in connection.execute(asked)]


def list_namespaces(
    connection: Connection,
    seen_by: Viewer,
    *,
    visibility: str | None = None,
    resource_types: Sequence[str] = (),
    marker: str | None = None,
    limit: int | None = None,
) -> list[Definition]:
    """Returns the namespaces that a viewer sees, the newest first, those after the namespace `marker`.

    With `resource_types`, those that are associated with one of them. Raises `DefinitionNotFound` for the marker.
    """
    asked = select(*_COLUMNS).where(metadefs.c.kind == str(Kind.NAMESPACE), *_seen(seen_by))
    if visibility is not None:
        asked = asked.where(metadefs.c.visibility == visibility)
    if resource_types:
        other = metadefs.alias()
        associated = select(other.c.namespace).where(other.c.kind == str(Kind.ASSOCIATION), other.c.name.in_(resource_types))
        asked = asked.where(metadefs.c.namespace.in_(associated))
    if marker is not None:
        last = read_definition(connection, Kind.NAMESPACE, marker, marker)
        asked = asked.where(tuple_(metadefs.c.created_at, metadefs.c.namespace) < (last.created_at, last.namespace))
    asked = asked.order_by(metadefs.c.created_at.desc(), metadefs.c.namespace.desc()).limit(limit)
    return [Definition(**row._asdict()) for row in connection.execute(asked)]


def update_definition(connection: Connection, kind: str, namespace: str, name: str, after: Definition) -> Definition:
    """Records a definition as it shall be, perhaps with another name; a renamed namespace takes along what is in it.

    Raises `DefinitionNotFound`, `DefinitionExists` if the new name is taken, `Unstorable`.
    """
    if after.name != name:
        _check_free(connection, kind, after.namespace, after.name)
    values = {"name": after.name, "owner": after.owner, "visibility": after.visibility, "body": after.body, "updated_at": now()}
    if connection.execute(update(metadefs).where(_one(kind, namespace, name)).values(values)).rowcount == 0:
        raise DefinitionNotFound(kind, namespace, name)
    if kind == Kind.NAMESPACE and after.name != name:
        connection.execute(update(metadefs).where(_inside(namespace)).values(namespace=after.name))
    return read_definition(connection, kind, after.namespace, after.name)


def delete_definition(connection: Connection, kind: str, namespace: str, name: str) -> None:
    """Deletes a definition; with a namespace, all that is in it. Raises `DefinitionNotFound`."""
    if connection.execute(delete(metadefs).where(_one(kind, namespace, name))).rowcount == 0:
        raise DefinitionNotFound(kind, namespace, name)
    if kind == Kind.NAMESPACE:
        connection.execute(delete(metadefs).where(_inside(namespace)))


def delete_definitions(connection: Connection, kind: str, namespace: str) -> list[str]:
    """Deletes all definitions of a kind in a namespace; returns their names."""
    names = [one.name for one in list_definitions(connection, kind, namespace)]
    connection.execute(delete(metadefs).where(metadefs.c.kind == str(kind), metadefs.c.namespace == namespace))
    return names


def _check_free(connection: Connection, kind: str, namespace: str, name: str) -> None:
    if _is_taken(connection, kind, namespace, name):
        raise DefinitionExists(kind, namespace, name)


def _is_taken(connection: Connection, kind: str, namespace: str, name: str) -> bool:
    return connection.execute(select(metadefs.c.id).where(_one(kind, namespace, name))).first() is not None


def _one(kind: str, namespace: str, name: str) -> ColumnElement[bool]:
    return and_(metadefs.c.kind == str(kind), metadefs.c.namespace == namespace, metadefs.c.name == name)


def _inside(namespace: str) -> ColumnElement[bool]:
    return and_(metadefs.c.namespace == namespace, metadefs.c.kind != str(Kind.RESOURCE_TYPE))


def _seen(viewer: Viewer) -> list[ColumnElement[bool]]:
    if viewer.everything:
        return []
    own = [metadefs.c.owner == viewer.project] if viewer.project is not None else []
    return [or_(metadefs.c.visibility == "public", *own)]
