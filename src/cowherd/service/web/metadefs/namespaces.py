"""Namespaces of the vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    create_definition,
    delete_definition,
    list_namespaces,
    read_definition,
    update_definition,
)
from cowherd.service.web.access import require, viewer
from cowherd.service.web.call import document_answer, empty_answer
from cowherd.service.web.errors import BadRequest, Forbidden
from cowherd.service.web.images.listing import links
from cowherd.service.web.metadefs import associations, objects, properties, tags
from cowherd.service.web.metadefs.common import (
    LIST,
    NAMESPACES,
    given,
    limit_of,
    note_change,
    note_update,
    ordered,
    require_namespace,
    times,
)
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas.metadefs import NAMESPACE
from cowherd.service.web.versions import base_url

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

_TEXTS = ("display_name", "description")
_CONTENTS = ("resource_type_associations", "properties", "objects", "tags")
_SORTED_BY = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "namespace": "name",
    "owner": "owner",
    "visibility": "visibility",
}


@operation(
    "get_metadef_namespaces",
    gives="metadefs/namespaces",
    query={
        **LIST,
        "sort_key": ", ".join(_SORTED_BY),
        "visibility": "public or private",
        "resource_types": "meant for one of these, with commas between them",
    },
    means={403: "the caller may not list namespaces, or not see that of the marker", 404: "there is no namespace of the marker"},
)
def index(call: Call) -> Response:
    """Shows a page of the namespaces that the caller may see."""
    require(call, "get_metadef_namespaces")
    settings, parameters = call.service.settings, dict(call.query)
    limit = min(limit_of(parameters, settings.limit_param_default) or 0, settings.api_limit_max)
    visibility = parameters.get("visibility")
    if visibility is not None and visibility not in ("public", "private"):
        raise BadRequest(f"Invalid visibility value: {visibility}")
    types = [name for name in parameters.get("resource_types", "").split(",") if name]
    with call.service.database.read() as connection:
        found = list_namespaces(connection, viewer(call), visibility=visibility, resource_types=types)
        marker = parameters.get("marker")
        if marker and marker not in {one.name for one in found}:
            read_definition(connection, Kind.NAMESPACE, marker, marker)
            raise Forbidden(f"You are not authorized to see the namespace {marker}, after which the page begins.")
        shown = ordered(found, parameters, _SORTED_BY, limit)
        documents = [_with_associations(connection, one) for one in shown]
    after = shown[-1].name if shown and len(shown) == limit else None
    first = links(NAMESPACES, call.query, after)
    return document_answer({"namespaces": documents, **first, "schema": "/v2/schemas/metadefs/namespaces"})


@operation(
    "add_metadef_namespace",
    takes="metadefs/namespace",
    gives="metadefs/namespace",
    status=201,
    sent={"Location": "the address of the namespace"},
    means={
        403: "what only the service says is given, or the caller may not do this",
        409: "there is a namespace of this name, or it defines something twice",
    },
)
def create(call: Call) -> Response:
    """Makes a namespace, with all that its document defines."""
    document = given(call, NAMESPACE)
    if not document["namespace"]:
        raise BadRequest("Provided object does not match schema 'namespace': a namespace has a name.")
    require(call, "add_metadef_namespace")
    namespace = _definition(document, document.get("owner", call.caller.project))
    with call.service.database.write() as connection:
        create_definition(connection, namespace)
        _add_contents(connection, document)
        visible = namespace.visibility
        note_change(call, connection, "create", Kind.NAMESPACE, namespace.name, name=namespace.name, visibility=visible)
    contents = {name: document[name] for name in _CONTENTS if name in document}
    headers = {"Location": f"{base_url(call)}{NAMESPACES}/{namespace.name}"} if namespace.name.isascii() else {}
    return document_answer({**_document(namespace), **contents}, 201, headers)


@operation(
    "get_metadef_namespace",
    gives="metadefs/namespace",
    query={"resource_type": "a type of resources: properties have the names that they have there"},
)
def show(call: Call) -> Response:
    """Shows a namespace, with all that it defines; for a type of resources, with the properties named as they are there."""
    resource_type = dict(call.query).get("resource_type")
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_namespace")
        document = _with_associations(connection, namespace)
        prefix = associations.prefix_of(connection, namespace.name, resource_type) or ""
        found = {
            "properties": {prefix + name: one for name, one in properties.all_of(connection, namespace.name).items()},
            "objects": objects.all_of(connection, namespace.name),
            "tags": tags.all_of(connection, namespace.name),
        }
    return document_answer({**document, **{name: value for name, value in found.items() if value}})


@operation(
    "modify_metadef_namespace",
    takes="metadefs/namespace",
    gives="metadefs/namespace",
    means={409: "there is a namespace of the new name"},
)
def update(call: Call) -> Response:
    """Makes a namespace as its document says, but for what it defines."""
    document = given(call, NAMESPACE)
    with call.service.database.write() as connection:
        before = require_namespace(call, connection, "modify_metadef_namespace")
        after = _definition(document, document.get("owner", before.owner))
        after = update_definition(connection, Kind.NAMESPACE, before.name, before.name, after)
        note_update(call, connection, after, before.name)
    return document_answer(_document(after))


@operation("delete_metadef_namespace", means={403: "the namespace is protected, or the caller may see it and not delete it"})
def delete(call: Call) -> Response:
    """Deletes a namespace, with all that it defines."""
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "delete_metadef_namespace")
        if namespace.body.get("protected"):
            raise Forbidden(f"Metadata definition namespace {namespace.name} is protected and cannot be deleted.")
        delete_definition(connection, Kind.NAMESPACE, namespace.name, namespace.name)
        note_change(call, connection, "delete", Kind.NAMESPACE, namespace.name, name=namespace.name)
    return empty_answer()


def _definition(document: dict[str, Any], owner: str | None) -> Definition:
    name = document["namespace"]
    texts = {field: document[field] for field in _TEXTS if field in document}
    return Definition(
        kind=Kind.NAMESPACE,
        namespace=name,
        name=name,
        owner=owner,
        visibility=document.get("visibility", "private"),
        body={**texts, "protected": document.get("protected", False)},
    )


def _document(namespace: Definition) -> dict[str, Any]:
    document = {
        "namespace": namespace.name,
        **namespace.body,
        "visibility": namespace.visibility,
        "owner": namespace.owner,
        **times(namespace),
        "self": f"{NAMESPACES}/{namespace.name}",
        "schema": "/v2/schemas/metadefs/namespace",
    }
    return {name: value for name, value in document.items() if value is not None}


def _with_associations(connection: Connection, namespace: Definition) -> dict[str, Any]:
    found = associations.all_of(connection, namespace.name)
    return {**_document(namespace), **({"resource_type_associations": found} if found else {})}


def _add_contents(connection: Connection, document: dict[str, Any]) -> None:
    name = document["namespace"]
    for one in document.get("resource_type_associations", ()):
        associations.add_to(connection, name, one)
    for key, one in document.get("properties", {}).items():
        properties.add_to(connection, name, key, one)
    for one in document.get("objects", ()):
        objects.add_to(connection, name, one)
    for one in document.get("tags", ()):
        tags.add_to(connection, name, one["name"])


ROUTES: list[Route] = [
    resource(NAMESPACES, GET=index, POST=create),
    resource(NAMESPACES + "/{namespace}", GET=show, PUT=update, DELETE=delete),
    *objects.ROUTES,
    *properties.ROUTES,
    *tags.ROUTES,
    *associations.ROUTES,
]
