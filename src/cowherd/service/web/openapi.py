"""The description of the API as OpenAPI 3.1 has it, made of what is told of the handlers."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from cowherd.service.web.call import document_answer
from cowherd.service.web.operation import JSON, operation, operation_of
from cowherd.service.web.routing import Resource, resource
from cowherd.service.web.schemas.named import DOCUMENTS
from cowherd.service.web.versions import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.responses import Response
    from starlette.routing import BaseRoute, Route

    from cowherd.service.web.call import Call
    from cowherd.service.web.operation import Body, Operation, Told
    from cowherd.service.web.routing import Handler

PATH = "/cowherd/v1/openapi.json"
_OF_HYPERMEDIA = ("name", "links", "definitions")
_ERROR = {JSON: "error", "text/html": None, "text/plain": None}


@operation(gives="schema")
def show(call: Call) -> Response:
    """Describes the API as OpenAPI 3.1 has it."""
    return document_answer(description(call.request.scope["router"].routes))


def operations(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, Handler, Operation]]:
    """Gives path, method, handler and what is told of it, for all handlers of routes."""
    for route in routes:
        path, found = getattr(route, "path", ""), getattr(route, "app", None)
        if isinstance(found, Resource):
            for method, handler in found.handlers.items():
                told = operation_of(handler)
                if told is not None:
                    yield path, method, handler, told


def summary(handler: Handler) -> str:
    """Returns what a handler does, as the first line of its docstring says, without the errors."""
    return (inspect.getdoc(handler) or "").split("\n", 1)[0].split(" Raises ", 1)[0]


def description(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Returns the document."""
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler, told in operations(routes):
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, handler, told)
    return {
        "openapi": "3.1.0",
        "info": {"title": "cowherd's image service", "version": f"2.{CURRENT}"},
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "schemas": {_slug(name): plain(schema) for name, schema in DOCUMENTS.items()},
        },
    }


def plain(schema: Any, definitions: Any = None) -> dict[str, Any]:
    """Returns a schema with what it refers to in the place of the reference, and without what says nothing of values."""
    definitions = schema.get("definitions", definitions)
    if "$ref" in schema:
        return plain(definitions[schema["$ref"].removeprefix("#/definitions/")], definitions)
    return {key: _plain_keyword(key, value, definitions) for key, value in schema.items() if key not in _OF_HYPERMEDIA}


def _plain_keyword(key: str, value: Any, definitions: Any) -> Any:
    if key == "properties":
        return {name: plain(one, definitions) for name, one in value.items()}
    if key == "allOf":
        return [plain(one, definitions) for one in value]
    return plain(value, definitions) if key in ("items", "additionalProperties") and isinstance(value, dict) else value


def _operation(path: str, method: str, handler: Handler, told: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _slug(f"{method.lower()} {path}"),
        "summary": summary(handler),
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", path)
            ),
            *_parameters("query", told.query),
            *_parameters("header", told.headers),
        ],
        "responses": {str(status): _answer(method, told, status, means) for status, means in told.statuses(path).items()},
    }
    if told.may:
        found["description"] = f"Who may: by the rules {', '.join(told.may)}."
    if told.takes:
        found["requestBody"] = {"required": JSON in told.takes, "content": _content(told.takes)}
    return found


def _parameters(where: str, told: Told) -> Iterator[dict[str, Any]]:
    for names, about in told.items():
        for name in names.split(", "):
            if " " not in name and name != "Content-Type":  # which the body says itself
                yield {**_parameter(where, name), "description": about}


def _parameter(where: str, name: str) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": {"type": "string"}}


def _answer(method: str, told: Operation, status: int, means: str) -> dict[str, Any]:
    found: dict[str, Any] = {"description": means}
    if status >= 400 and method != "HEAD":
        found["content"] = _content(_ERROR)
    elif told.gives and status in (told.status, 206) and method != "HEAD":
        found["content"] = _content(told.gives)
    if status < 400 and told.sent:
        found["headers"] = {name: {"description": about, "schema": {"type": "string"}} for name, about in told.sent.items()}
    return found


def _content(body: Body) -> dict[str, Any]:
    return {kind: {"schema": _reference(name)} if name else {} for kind, name in body.items()}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{_slug(name)}"}


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text)


ROUTES: list[Route] = [resource(PATH, GET=show)]
