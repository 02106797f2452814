"""Asks a service the requests of scenes, and notes what it answers in a form that can be compared."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tests.openstack.recorder.request import Request, Scene

# What the server beneath decides, and what says nothing of the service.
_NOT_COMPARED = {"connection", "date", "server", "transfer-encoding", "keep-alive"}
_PROSE = {"description", "message", "title", "display_name"}
_CALLED = ("name", "namespace", "member_id", "id", "version")
_SECONDS_TO_WAIT, _LONGEST_NOTED = 10, 300
_WITH_BODIES = {"POST", "PUT", "PATCH"}
_PATTERNS = (
    (re.compile(r"\breq-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<request>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "<time>"),
    (re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "<time>"),
    (re.compile(r"\b(file:///|cowherd://)\S*"), "<file>"),  # in a store
    (re.compile(r"^/\S*/(?=(cheap|fast)$)"), "<folder>/"),  # of stores
)

Answer = dict[str, Any]


class Target(NamedTuple):
    """A service under test: where it is, a token for each who of the requests, and what names stand for."""

    url: str
    tokens: Mapping[str, str]
    names: Mapping[str, str]


def play(scenes: Iterable[Scene], target: Target) -> dict[str, Answer]:
    """Returns the answers by title; every scene's images are deleted after it."""
    answers: dict[str, Answer] = {}
    for scene in scenes:
        names = dict(target.names)
        for title, request in scene.titled():
            answer = _play_one(request, target, names)
            if request.recorded:
                answers[title] = answer
        _clear(target)
    return answers


def _play_one(request: Request, target: Target, names: dict[str, str]) -> Answer:
    """Returns the answer as it is noted, and adds what the request keeps to `names`."""
    latest = time.monotonic() + _SECONDS_TO_WAIT
    while True:
        status, headers, data = exchange(target, request, names)
        document = _document(data)
        if request.until is None or document.get(request.until[0]) == request.until[1] or time.monotonic() > latest:
            break
        time.sleep(0.1)
    for name, key in request.keep:
        names[name] = str(document.get(key, f"no-{name}"))
    return _noted(status, headers, data, names)


def exchange(target: Target, request: Request, names: Mapping[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
    """Asks over a connection of its own; returns status, headers and body. The status is 0 where the server hangs up instead."""
    address = urlsplit(target.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.putrequest(request.method, _filled(request.path, names, escaped=True), skip_accept_encoding=True)
        for key, value in _headers(request, target, names):
            connection.putheader(key, value)
        connection.endheaders(_body(request, names) or None)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
        return 0, [], b""
    finally:
        connection.close()


def _headers(request: Request, target: Target, names: Mapping[str, str]) -> list[tuple[str, str]]:
    headers = [(key, _filled(value, names)) for key, value in request.headers]
    if request.who in target.tokens:
        headers.append(("X-Auth-Token", target.tokens[request.who]))
    given = {key.lower() for key, _ in headers}
    if not given & {"content-length", "transfer-encoding"} and (request.body is not None or request.method in _WITH_BODIES):
        headers.append(("Content-Length", str(len(_body(request, names)))))
    return headers


def _body(request: Request, names: Mapping[str, str]) -> bytes:
    body = request.body or b""
    if b"{" in body:
        body = _filled(body.decode("utf-8", "surrogateescape"), names).encode("utf-8", "surrogateescape")
    if ("Transfer-Encoding", "chunked") in request.headers:
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return body


def _filled(text: str, names: Mapping[str, str], escaped: bool = False) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: _value(found, names, escaped), text)


def _value(found: re.Match[str], names: Mapping[str, str], escaped: bool) -> str:
    value = names.get(found[1], found[0])
    return quote(value, safe="") if escaped else value


def _document(data: bytes) -> dict[str, Any]:
    try:
        read = json.loads(data)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _noted(status: int, headers: list[tuple[str, str]], data: bytes, names: Mapping[str, str]) -> Answer:
    """What is compared of an answer: ids, times and places are named, prose is left out."""
    kept = {key.lower(): value for key, value in headers if key.lower() not in _NOT_COMPARED}
    kind = kept.get("content-type", "")
    if "content-length" in kept and not kind.startswith("application/octet-stream"):
        kept["content-length"] = "<length>"  # of JSON and prose
    return {
        "status": status,
        "headers": {key: _named(value, names) for key, value in sorted(kept.items())},
        "body": _noted_body(kind, data, names),
    }


def _noted_body(kind: str, data: bytes, names: Mapping[str, str]) -> Any:
    if "json" in kind and data:
        try:
            return _noted_value(json.loads(data), names)
        except ValueError:
            return "<not JSON>"
    if kind.startswith("text/"):
        return "<text>" if data else ""
    return _shortened(data.decode("latin-1"))


def _noted_value(value: Any, names: Mapping[str, str], key: str = "") -> Any:
    if isinstance(value, dict):
        return {_named(name, names): _noted_value(inner, names, name) for name, inner in value.items()}
    if isinstance(value, list):
        if key == "tags":  # Glance gives them in no order
            value = sorted(value, key=str)
        return [_noted_value(inner, names) if index == 0 else _noted_next(inner, names) for index, inner in enumerate(value)]
    if isinstance(value, str):
        return "<text>" if key in _PROSE else _shortened(_named(value, names))
    return value


def _noted_next(value: Any, names: Mapping[str, str]) -> Any:
    """What is noted of the second and later entries of a list: what they are called is enough to know them again."""
    if isinstance(value, dict):
        called = [value[key] for key in _CALLED if isinstance(value.get(key), str)]
        return _named(called[0], names) if called else _noted_value(value, names)
    return _noted_value(value, names)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_NOTED else f"{text[:20]}… ({len(text)} characters)"


def _named(text: str, names: Mapping[str, str]) -> str:
    """The text with ids, times and places replaced by their names."""
    for name, value in sorted(names.items(), key=lambda pair: -len(pair[1])):
        if len(value) > 5:
            text = text.replace(value, f"<{name}>").replace(quote(value, safe=""), f"<{name}>")
    for pattern, stands_for in _PATTERNS:
        text = pattern.sub(stands_for, text)
    return text


def _clear(target: Target) -> None:
    """Deletes all images and all namespaces."""
    for hidden in ("false", "true"):
        while images := _listed(target, f"/v2/images?limit=100&visibility=all&os_hidden={hidden}", "images"):
            for image in images:
                _delete_image(target, image)
    while namespaces := _listed(target, "/v2/metadefs/namespaces", "namespaces"):
        for namespace in namespaces:
            _delete_namespace(target, namespace)


def _listed(target: Target, path: str, key: str) -> list[dict[str, Any]]:
    status, _, data = exchange(target, Request("GET", path, "admin"), {})
    if status == 404:  # a service without metadefs
        return []
    if status != 200:
        raise RuntimeError(f"GET {path}: {status} {data[:300]!r}")
    return json.loads(data)[key]


def _delete_image(target: Target, image: dict[str, Any]) -> None:
    path = f"/v2/images/{image['id']}"
    if image["protected"]:
        _must(target, Request("PATCH", path, "admin", _UNPROTECT, (("Content-Type", _PATCH),)))
    _must(target, Request("DELETE", path, "admin"))


def _delete_namespace(target: Target, namespace: dict[str, Any]) -> None:
    path = f"/v2/metadefs/namespaces/{quote(namespace['namespace'], safe='')}"
    if namespace["protected"]:
        body = json.dumps({"namespace": namespace["namespace"], "protected": False}).encode()
        _must(target, Request("PUT", path, "admin", body, (("Content-Type", "application/json"),)))
    _must(target, Request("DELETE", path, "admin"))


_UNPROTECT, _PATCH = b'[{"op":"replace","path":"/protected","value":false}]', "application/openstack-images-v2.1-json-patch"


def _must(target: Target, request: Request) -> None:
    status, _, data = exchange(target, request, {})
    if status >= 300:
        raise RuntimeError(f"{request.method} {request.path}: {status} {data[:300]!r}")
