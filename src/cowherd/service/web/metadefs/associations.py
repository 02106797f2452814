"""Types of resources, and which namespaces are meant for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.faults import DefinitionNotFound
from cowherd.service.records.metadefs import Definition, Kind, list_definitions, read_definition
from cowherd.service.web.access import require
from cowherd.service.web.call import document_answer
from cowherd.service.web.errors import BadRequest
from cowherd.service.web.metadefs.common import NAMESPACES, add, deleting, given, note_change, require_namespace, times
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas.metadefs import RESOURCE_TYPE

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

_KIND = Kind.ASSOCIATION
_OF_NO_NAMESPACE = ""


@operation("list_metadef_resource_types", gives="metadefs/all_resource_types")
def index_types(call: Call) -> Response:
    """Shows the types of resources that any namespace was ever meant for."""
    require(call, "list_metadef_resource_types")
    with call.service.database.read() as connection:
        found = _oldest_first(connection, Kind.RESOURCE_TYPE, _OF_NO_NAMESPACE)
    return document_answer({"resource_types": [{"name": one.name, **times(one)} for one in found]})


@operation("get_metadef_resource_type", gives="metadefs/resource_types")
def index(call: Call) -> Response:
    """Shows the types of resources that a namespace is meant for."""
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_resource_type")
        found = all_of(connection, namespace.name)
    return document_answer({"resource_type_associations": found})


@operation(
    "add_metadef_resource_type_association",
    takes="metadefs/resource_type",
    gives="metadefs/resource_type",
    status=201,
    means={409: "the namespace is meant for this type already"},
)
def create(call: Call) -> Response:
    """Says that a namespace is meant for a type of resources."""
    document = given(call, RESOURCE_TYPE)
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "add_metadef_resource_type_association")
        definition = add_to(connection, namespace.name, document)
        note_change(call, connection, "create", _KIND, namespace.name, name=definition.name)
    return document_answer(_document(definition), 201)


def all_of(connection: Connection, namespace: str) -> list[dict[str, Any]]:
    """Returns the documents of all associations of a namespace."""
    return [_document(one) for one in _oldest_first(connection, _KIND, namespace)]


def add_to(connection: Connection, namespace: str, document: dict[str, Any]) -> Definition:
    """Adds the association that a document describes to a namespace. Raises `BadRequest` if it names no type."""
    name = document.get("name")
    if not isinstance(name, str):
        raise BadRequest("Provided object does not match schema 'resource_type_association': it has a name.")
    known = {one.name for one in list_definitions(connection, Kind.RESOURCE_TYPE, _OF_NO_NAMESPACE)}
    if name not in known:
        add(connection, Kind.RESOURCE_TYPE, _OF_NO_NAMESPACE, name, {})
    return add(connection, _KIND, namespace, name, {key: value for key, value in document.items() if key != "name"})


def prefix_of(connection: Connection, namespace: str, resource_type: str | None) -> str | None:
    """Returns what properties' names begin with for a type of resources; None if the namespace is not meant for it."""
    if resource_type is None:
        return None
    try:
        association = read_definition(connection, _KIND, namespace, resource_type)
    except DefinitionNotFound:
        return None
    prefix: str = association.body.get("prefix", "")
    return prefix


def _oldest_first(connection: Connection, kind: Kind, namespace: str) -> list[Definition]:
    return sorted(list_definitions(connection, kind, namespace), key=lambda one: one.created_at)


def _document(definition: Definition) -> dict[str, Any]:
    return {"name": definition.name, **definition.body, **times(definition)}


_PATH = NAMESPACES + "/{namespace}/resource_types"
ROUTES: list[Route] = [
    resource("/v2/metadefs/resource_types", GET=index_types),
    resource(_PATH, GET=index, POST=create),
    resource(_PATH + "/{name}", DELETE=deleting(_KIND, "remove_metadef_resource_type_association")),
]
