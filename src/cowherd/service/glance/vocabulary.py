"""Glance's metadata definitions, in the form of ours."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from cowherd.service.glance import tables
from cowherd.service.glance.images import moment
from cowherd.service.records.metadefs import Definition, Kind, create_definition, is_defined, property_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Row, Table

_OF_NO_NAMESPACE = ""


class Vocabulary(NamedTuple):
    """The types of resources, and for each namespace, the eldest first, its own definition and then those of what is in it."""

    resource_types: tuple[Definition, ...]
    namespaces: tuple[tuple[Definition, ...], ...]


def read_vocabulary(connection: Connection) -> Vocabulary:
    """Reads all definitions from Glance's database."""
    types = {row.id: row for row in connection.execute(select(tables.resource_types))}
    inside: dict[int, list[tuple[Kind, Row[Any]]]] = defaultdict(list)
    for kind, (table, _) in _INSIDE.items():
        for row in connection.execute(select(table)):
            inside[row.namespace_id].append((kind, row))
    namespaces = connection.execute(select(tables.namespaces).order_by(tables.namespaces.c.id))
    return Vocabulary(
        tuple(_definition(Kind.RESOURCE_TYPE, _OF_NO_NAMESPACE, row.name, row, {}) for row in types.values()),
        tuple(
            (_namespace(row), *(_inside(kind, row.namespace, one, types) for kind, one in inside[row.id])) for row in namespaces
        ),
    )


def adopt_resource_types(connection: Connection, vocabulary: Vocabulary) -> None:
    """Records the types of resources that are not known yet."""
    for one in vocabulary.resource_types:
        if not is_defined(connection, one):
            create_definition(connection, one)


def _namespace(row: Row[Any]) -> Definition:
    texts = {name: getattr(row, name) for name in ("display_name", "description")}
    body = {**_said(texts), "protected": bool(row.protected)}
    made = _definition(Kind.NAMESPACE, row.namespace, row.namespace, row, body)
    return Definition(
        **{name: getattr(made, name) for name in ("kind", "namespace", "name", "body", "created_at", "updated_at")},
        owner=row.owner,
        visibility=row.visibility or "private",
    )


def _inside(kind: Kind, namespace: str, row: Row[Any], types: dict[int, Row[Any]]) -> Definition:
    name = types[row.resource_type_id].name if kind is Kind.ASSOCIATION else row.name
    return _definition(kind, namespace, name, row, _INSIDE[kind][1](row))


def _definition(kind: Kind, namespace: str, name: str, row: Row[Any], body: dict[str, Any]) -> Definition:
    made = moment(row.created_at)
    changed = moment(row.updated_at, row.created_at)
    return Definition(kind=kind, namespace=namespace, name=name, body=body, created_at=made, updated_at=changed)


def _object_body(row: Row[Any]) -> dict[str, Any]:
    texts = _said({"description": row.description})
    required = row.required.split(",") if row.required else []
    schema = json.loads(row.json_schema or "{}")
    return {**texts, "required": required, "properties": {name: property_body(_said(one)) for name, one in schema.items()}}


def _property_body(row: Row[Any]) -> dict[str, Any]:
    return property_body(_said(json.loads(row.json_schema or "{}")))


def _association_body(row: Row[Any]) -> dict[str, Any]:
    return _said({"prefix": row.prefix, "properties_target": row.properties_target})


def _said(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


_INSIDE: dict[Kind, tuple[Table, Callable[[Row[Any]], dict[str, Any]]]] = {
    Kind.OBJECT: (tables.objects, _object_body),
    Kind.PROPERTY: (tables.properties, _property_body),
    Kind.TAG: (tables.tags, lambda row: {}),
    Kind.ASSOCIATION: (tables.associations, _association_body),
}
