"""Tags of a namespace: words that images may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    delete_definitions,
    list_definitions,
    read_definition,
    update_definition,
)
from cowherd.service.web.call import document_answer
from cowherd.service.web.errors import BadRequest
from cowherd.service.web.metadefs.common import (
    LIST,
    NAMESPACES,
    add,
    check,
    deleting,
    deleting_all,
    given,
    limit_of,
    newest_first,
    note_change,
    note_update,
    ordered,
    require_namespace,
    times,
)
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas.metadefs import TAG, TAG_LIST

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

_KIND = Kind.TAG
_SORTED_BY = {"created_at": "created_at", "updated_at": "updated_at", "name": "name"}


@operation("get_metadef_tags", gives="metadefs/tags", query={**LIST, "sort_key": ", ".join(_SORTED_BY)})
def index(call: Call) -> Response:
    """Shows the tags of a namespace."""
    parameters = dict(call.query)
    limit = limit_of(parameters, None)
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_tags")
        found = ordered(list_definitions(connection, _KIND, namespace.name), parameters, _SORTED_BY, limit)
    return document_answer({"tags": [{"name": one.name} for one in found]})


@operation(
    "add_metadef_tags",
    takes="metadefs/new_tags",
    gives="metadefs/tags",
    status=201,
    headers={"X-Openstack-Append": "true keeps the tags that the namespace has"},
    means={409: "a tag comes twice, or is there already"},
)
def create_all(call: Call) -> Response:
    """Gives a namespace these tags, in place of those that it has, or beside them if the header X-Openstack-Append says so."""
    document = given(call, TAG_LIST)
    if "tags" not in document:
        raise BadRequest("Provided object does not match schema 'tags': 'tags' is a required property")
    appends = (call.header("x-openstack-append") or "").lower() == "true"
    names = [one["name"] for one in document["tags"]]
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "add_metadef_tags")
        replaced = [] if appends else delete_definitions(connection, _KIND, namespace.name)
        for name in names:
            add_to(connection, namespace.name, name)
        if names or replaced:
            note_change(call, connection, "create" if appends else "replace", _KIND, namespace.name, names=names)
    return document_answer({"tags": [{"name": name} for name in names]}, 201)


@operation("add_metadef_tag", gives="metadefs/tag", status=201, means={409: "there is a tag of this name"})
def create(call: Call) -> Response:
    """Gives a namespace the tag that the path names."""
    name = call.names["name"]
    check({"name": name}, TAG)
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "add_metadef_tag")
        definition = add_to(connection, namespace.name, name)
        note_change(call, connection, "create", _KIND, namespace.name, name=definition.name)
    return document_answer(_document(definition), 201)


@operation(
    "get_metadef_tag", gives="metadefs/tag", means={404: "there is no such namespace or tag, or the caller may not see it"}
)
def show(call: Call) -> Response:
    """Shows a tag."""
    with call.service.database.read() as connection:
        namespace = require_namespace(call, connection, "get_metadef_tag")
        definition = read_definition(connection, _KIND, namespace.name, call.names["name"])
    return document_answer(_document(definition))


@operation(
    "modify_metadef_tag",
    takes="metadefs/tag",
    gives="metadefs/tag",
    means={404: "there is no such namespace or tag, or the caller may not see it", 409: "there is a tag of the new name"},
)
def update(call: Call) -> Response:
    """Gives a tag another name."""
    document = given(call, TAG)
    with call.service.database.write() as connection:
        namespace = require_namespace(call, connection, "modify_metadef_tag")
        after = Definition(kind=_KIND, namespace=namespace.name, name=document["name"])
        definition = update_definition(connection, _KIND, namespace.name, call.names["name"], after)
        note_update(call, connection, definition, call.names["name"])
    return document_answer(_document(definition))


def all_of(connection: Connection, namespace: str) -> list[dict[str, Any]]:
    """Returns the names of all tags of a namespace, each as a document."""
    return [{"name": one.name} for one in newest_first(connection, _KIND, namespace)]


def add_to(connection: Connection, namespace: str, name: str) -> Definition:
    """Adds a tag to a namespace."""
    return add(connection, _KIND, namespace, name, {})


def _document(definition: Definition) -> dict[str, Any]:
    return {"name": definition.name, **times(definition)}


_PATH = NAMESPACES + "/{namespace}/tags"
ROUTES: list[Route] = [
    resource(_PATH, GET=index, POST=create_all, DELETE=deleting_all(_KIND, "delete_metadef_tags")),
    resource(_PATH + "/{name}", GET=show, POST=create, PUT=update, DELETE=deleting(_KIND, "delete_metadef_tag")),
]
