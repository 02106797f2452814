"""Objects of a namespace: groups of properties that belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    list_definitions,
    property_body,
    read_definition,
    update_definition,
)
from cowherd.service.web.call import document_answer
from cowherd.service.web.errors import BadRequest
from cowherd.service.web.metadefs.common import (
    NAMESPACES,
    add,
    check,
    deleting,
    deleting_all,
    descends,
    given,
    limit_of,
    note_change,
    note_update,
    require_namespace,
    times,
)
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas.metadefs import NAMELESS_PROPERTY, OBJECT

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

_KIND = Kind.OBJECT
_EMPTY: dict[str, Any] = {"required": [], "properties": {}}


@operation(
    "get_metadef_objects",
    gives="metadefs/objects",
    query={"limit, sort_dir": "must make sense, and change nothing"},
)
def index(call: Call) -> Response:
    """Shows all objects of a namespace."""
    parameters = dict(call.query)
    limit_of(
        parameters, None, least=1
    )  # a limit must make sense, but there are no pages to go on with, and Glance limits nothing
    descends(parameters)
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_objects")
        found = all_of(connection, namespace.name)
    return document_answer({"objects": found, "schema": "v2/schemas/metadefs/objects"})


@operation(
    "add_metadef_object",
    takes="metadefs/object",
    gives="metadefs/object",
    status=201,
    means={409: "there is an object of this name"},
)
def create(call: Call) -> Response:
    """Makes an object."""
    document = _given(call)
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "add_metadef_object")
        definition = add_to(connection, namespace.name, document)
        note_change(call, connection, "create", _KIND, namespace.name, name=definition.name)
    return document_answer(_document(definition), 201)


@operation(
    "get_metadef_object",
    gives="metadefs/object",
    means={404: "there is no such namespace or object, or the caller may not see it"},
)
def show(call: Call) -> Response:
    """Shows an object."""
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_object")
        definition = read_definition(connection, _KIND, namespace.name, call.names["name"])
    return document_answer({**_EMPTY, **_document(definition)})


@operation(
    "modify_metadef_object",
    takes="metadefs/object",
    gives="metadefs/object",
    means={404: "there is no such namespace or object, or the caller may not see it", 409: "there is an object of the new name"},
)
def update(call: Call) -> Response:
    """Makes an object as its document says."""
    document = _given(call)
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "modify_metadef_object")
        after = Definition(kind=_KIND, namespace=namespace.name, name=document["name"], body=_body(document))
        definition = update_definition(connection, _KIND, namespace.name, call.names["name"], after)
        note_update(call, connection, definition, call.names["name"])
    return document_answer(_document(definition))


def all_of(connection: Connection, namespace: str) -> list[dict[str, Any]]:
    """Returns the documents of all objects of a namespace, by their names."""
    return [{**_EMPTY, **_document(one)} for one in list_definitions(connection, _KIND, namespace)]


def add_to(connection: Connection, namespace: str, document: dict[str, Any]) -> Definition:
    """Adds the object that a document describes to a namespace. Raises `BadRequest` if it has no name."""
    if not isinstance(document.get("name"), str):
        raise BadRequest("Provided object does not match schema 'object': an object has a name.")
    return add(connection, _KIND, namespace, document["name"], _body(document))


def _given(call: Call) -> dict[str, Any]:
    document = given(call, OBJECT)
    for one in document.get("properties", {}).values():
        check(one, NAMELESS_PROPERTY)
    return document


def _body(document: dict[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in document.items() if name != "name"}
    if "properties" in body:
        body["properties"] = {name: property_body(one) for name, one in body["properties"].items()}
    return body


def _document(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition.name,
        **definition.body,
        **times(definition),
        "self": f"{NAMESPACES}/{definition.namespace}/objects/{definition.name}",
        "schema": "/v2/schemas/metadefs/object",
    }


_PATH = NAMESPACES + "/{namespace}/objects"
ROUTES: list[Route] = [
    resource(_PATH, GET=index, POST=create, DELETE=deleting_all(_KIND, "delete_metadef_object")),
    resource(_PATH + "/{name}", GET=show, PUT=update, DELETE=deleting(_KIND, "delete_metadef_object")),
]
