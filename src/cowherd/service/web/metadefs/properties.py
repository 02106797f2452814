"""Properties of a namespace: names, with what their values may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    property_body,
    read_definition,
    update_definition,
)
from cowherd.service.web.call import document_answer
from cowherd.service.web.errors import NotFound
from cowherd.service.web.metadefs.associations import prefix_of
from cowherd.service.web.metadefs.common import (
    NAMESPACES,
    add,
    deleting,
    deleting_all,
    given,
    newest_first,
    note_change,
    note_update,
    require_namespace,
)
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas.metadefs import PROPERTY

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

_KIND = Kind.PROPERTY


@operation("get_metadef_properties", gives="metadefs/properties")
def index(call: Call) -> Response:
    """Shows the properties of a namespace by their names."""
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_properties")
        found = all_of(connection, namespace.name)
    return document_answer({"properties": found})


@operation(
    "add_metadef_property",
    takes="metadefs/property",
    gives="metadefs/property",
    status=201,
    means={409: "there is a property of this name"},
)
def create(call: Call) -> Response:
    """Makes a property."""
    document = given(call, PROPERTY)
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "add_metadef_property")
        definition = add_to(connection, namespace.name, document["name"], document)
        note_change(call, connection, "create", _KIND, namespace.name, name=definition.name)
    return document_answer(definition.body, 201)


@operation(
    "get_metadef_property",
    gives="metadefs/property",
    query={"resource_type": "a type of resources: the name of the path is the one that the property has there"},
    means={404: "there is no such namespace or property, or the caller may not see it"},
)
def show(call: Call) -> Response:
    """Shows a property; for a type of resources, the one that has the name of the path there."""
    resource_type = dict(call.query).get("resource_type")
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_property")
        name = call.names["name"]
        if resource_type is not None:
            prefix = prefix_of(connection, namespace.name, resource_type)
            if prefix is None or not name.startswith(prefix):
                raise NotFound(f"The property {name} was not found for the resource type {resource_type}.")
            name = name.removeprefix(prefix)
        definition = read_definition(connection, _KIND, namespace.name, name)
    return document_answer({"name": definition.name, **definition.body})


@operation(
    "modify_metadef_property",
    takes="metadefs/property",
    gives="metadefs/property",
    means={
        404: "there is no such namespace or property, or the caller may not see it",
        409: "there is a property of the new name",
    },
)
def update(call: Call) -> Response:
    """Makes a property as its document says."""
    document = given(call, PROPERTY)
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "modify_metadef_property")
        after = Definition(kind=_KIND, namespace=namespace.name, name=document["name"], body=property_body(document))
        definition = update_definition(connection, _KIND, namespace.name, call.names["name"], after)
        note_update(call, connection, definition, call.names["name"])
    return document_answer(definition.body)


def all_of(connection: Connection, namespace: str) -> dict[str, dict[str, Any]]:
    """Returns the documents of all properties of a namespace by their names."""
    return {one.name: one.body for one in newest_first(connection, _KIND, namespace)}


def add_to(connection: Connection, namespace: str, name: str, document: dict[str, Any]) -> Definition:
    """Adds the property that a document describes to a namespace."""
    return add(connection, _KIND, namespace, name, property_body(document))


_PATH = NAMESPACES + "/{namespace}/properties"
ROUTES: list[Route] = [
    resource(_PATH, GET=index, POST=create, DELETE=deleting_all(_KIND, "remove_metadef_property")),
    resource(_PATH + "/{name}", GET=show, PUT=update, DELETE=deleting(_KIND, "remove_metadef_property")),
]
