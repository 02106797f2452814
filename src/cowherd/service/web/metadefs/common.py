"""What the routes of the vocabulary share: the path's namespace, the body that was given, lists, and DELETE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cowherd.service.policy.rules import Verdict, may
from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    create_definition,
    delete_definition,
    delete_definitions,
    list_definitions,
    read_definition,
)
from cowherd.service.web.audit import note
from cowherd.service.web.call import empty_answer
from cowherd.service.web.documents import time_text
from cowherd.service.web.errors import BadRequest, Forbidden, NotFound
from cowherd.service.web.operation import operation
from cowherd.service.web.schemas.validation import problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection
    from starlette.responses import Response

    from cowherd.service.web.call import Call

NAMESPACES = "/v2/metadefs/namespaces"
LIST = {"limit": "how many", "marker": "the name after which the page begins", "sort_dir": "asc or desc"}
"""What clients are told of the parameters of lists."""
_READ_ONLY = ("self", "schema", "created_at", "updated_at")


class _Thing(NamedTuple):
    """A namespace as the rules look at it."""

    owner: str | None
    visibility: str
    protected: bool = False
    status: str = ""


def require_namespace(call: Call, connection: Connection, action: str) -> Definition:
    """Returns the namespace that the path names, if the caller may do `action` in it.

    Raises `NotFound` if there is none, or the caller may not know of it; `Forbidden` otherwise.
    """
    name = call.names["namespace"]
    namespace = read_definition(connection, Kind.NAMESPACE, name, name)
    verdict = may(action, call.caller, _Thing(namespace.owner, namespace.visibility or "private"))
    if verdict is Verdict.HIDDEN:
        raise NotFound(f"Metadata definition namespace={name} was not found.")
    if verdict is Verdict.NO:
        raise Forbidden(f"You are not authorized to complete {action} action.")
    return namespace


def note_change(call: Call, connection: Connection, what: str, kind: Kind, namespace: str, **detail: Any) -> None:
    """Records that the caller did `what` ("create", say) with definitions of a kind in a namespace; `detail` names them."""
    note(call, connection, f"metadef.{kind}.{what}", namespace=namespace, **detail)


def note_update(call: Call, connection: Connection, after: Definition, before: str) -> None:
    """Records that the caller changed a definition of a namespace, of which `before` was the name."""
    renamed = {} if after.name == before else {"before": before}
    note_change(call, connection, "update", Kind(after.kind), after.namespace, name=after.name, **renamed)


def given(call: Call, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the body. Raises `BadRequest` unless it is as the schema says, `Forbidden` for what only the service says."""
    document = call.document()
    if not isinstance(document, dict):
        raise BadRequest(f"Provided object does not match schema '{schema['name']}': it is a JSON object.")
    for name in _READ_ONLY:
        if name in document:
            raise Forbidden(f"Attribute '{name}' is read-only.")
    check(document, schema)
    return document


def check(value: Any, schema: Mapping[str, Any]) -> None:
    """Raises `BadRequest` for the first thing in which a value is not as the schema says."""
    for problem in problems(value, schema):
        raise BadRequest(f"Provided object does not match schema '{schema['name']}': {problem}")


def add(connection: Connection, kind: Kind, namespace: str, name: str, body: dict[str, Any]) -> Definition:
    """Records a definition in a namespace, and returns it."""
    definition = Definition(kind=kind, namespace=namespace, name=name, body=body)
    create_definition(connection, definition)
    return definition


def newest_first(connection: Connection, kind: Kind, namespace: str) -> list[Definition]:
    """Returns the definitions of a kind in a namespace, in the order in which lists show them."""
    return sorted(list_definitions(connection, kind, namespace), key=lambda one: one.created_at, reverse=True)


def times(definition: Definition) -> dict[str, str]:
    """Returns when a definition was made and changed, as documents have it."""
    return {"created_at": time_text(definition.created_at), "updated_at": time_text(definition.updated_at)}


def descends(parameters: Mapping[str, str]) -> bool:
    """Reads the direction of a list. Raises `BadRequest`."""
    direction = parameters.get("sort_dir", "desc")
    if direction not in ("asc", "desc"):
        raise BadRequest(f"Invalid sort direction: {direction}")
    return direction == "desc"


def limit_of(parameters: Mapping[str, str], default: int | None, least: int = 0) -> int | None:
    """Reads how long a list may be. Raises `BadRequest`."""
    if "limit" not in parameters:
        return default
    try:
        limit = int(parameters["limit"])
    except ValueError as error:
        raise BadRequest("limit param must be an integer") from error
    if limit < least:
        raise BadRequest("limit param must be positive")
    return limit


def ordered(
    definitions: list[Definition], parameters: Mapping[str, str], names: Mapping[str, str], limit: int | None
) -> list[Definition]:
    """Returns a list as the parameters ask for it: sorted, begun after a marker, and no longer than `limit`.

    `names` are the keys it can be sorted by, with the fields that they mean. Raises `BadRequest` for another key, `NotFound` for
    a marker that is not in the list.
    """
    key = parameters.get("sort_key", "created_at")
    if key not in names:
        raise BadRequest(f"Invalid sort key: {key}. It must be one of the following: {', '.join(names)}.")
    field = names[key]
    found = sorted(definitions, key=lambda one: (str(getattr(one, field)), one.created_at), reverse=descends(parameters))
    marker = parameters.get("marker")
    if marker:
        place = next((place for place, one in enumerate(found, 1) if one.name == marker), None)
        if place is None:
            raise NotFound(f"There is no {marker} after which the list could begin.")
        found = found[place:]
    return found if limit is None else found[:limit]


def deleting(kind: Kind, action: str) -> Callable[[Call], Response]:
    """Returns what answers DELETE of one definition of a kind in a namespace, for who may do `action`."""

    @operation(action, means={404: "there is no such thing, or the caller may not see it"})
    def delete(call: Call) -> Response:
        """Deletes this one."""
        with call.service.database.write() as connection:
            namespace = require_namespace(call, connection, action)
            delete_definition(connection, kind, namespace.name, call.names["name"])
            note_change(call, connection, "delete", kind, namespace.name, name=call.names["name"])
        return empty_answer()

    return delete


def deleting_all(kind: Kind, action: str) -> Callable[[Call], Response]:
    """Returns what answers DELETE of all definitions of a kind in a namespace, for who may do `action`."""

    @operation(action)
    def delete_all(call: Call) -> Response:
        """Deletes all of them."""
        with call.service.database.write() as connection:
            namespace = require_namespace(call, connection, action)
            if names := delete_definitions(connection, kind, namespace.name):
                note_change(call, connection, "delete", kind, namespace.name, names=names)
        return empty_answer()

    return delete_all
