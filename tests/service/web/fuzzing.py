"""Puts requests to a service that its own description leads to, sensible ones and others, and judges every answer.

The tests do so for some seconds; `python -m tests.service.web.fuzzing --minutes 10` goes on for longer, each time another way.
A request that is answered with 5xx, in a way that the description does not tell of, or with a traceback in the log is a finding.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import logging
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cowherd.service.web.callers import add_token
from cowherd.service.web.openapi import description
from cowherd.service.web.routes import ROUTES
from tests.service.web.described import faults
from tests.service.web.running import Client, running

API = description(ROUTES)
OPERATIONS = sorted((path, method) for path, methods in API["paths"].items() for method in methods)
_TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["", "a", "\0", "..", "a/b", "%00", "ü", "🐂", "x" * 81, "x" * 300, "\n", "<b>", "os_glance_x", "cowherd_x"]),
)
_NUMBERS = st.one_of(st.integers(-2, 5), st.sampled_from([1 << 31, 1 << 63, 10**30, -(10**30)]), st.floats(allow_nan=False))
_ANYTHING = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
# Names in braces stand for what there is by then: an image that waits for content, one that has some, an upload.
_IMAGES = st.sampled_from(["{queued}", "{active}", "{made}", "00000000-0000-4000-8000-000000000000"])
_NAMES = {
    "image_id": _IMAGES,
    "upload_id": st.sampled_from(["{upload}", "00000000-0000-4000-8000-000000000000"]),
    "task": st.sampled_from(["{task}", "00000000-0000-4000-8000-000000000000"]),
    "namespace": st.sampled_from(["n", "m", "none"]),
    "name": st.sampled_from(["p", "q", "none"]),
    "member": st.sampled_from(["project", "other"]),
    "store": st.sampled_from(["default", "none"]),
}
_NAMESPACE = {
    "namespace": "n",
    "properties": {"p": {"title": "p", "type": "string"}},
    "objects": [{"name": "p"}],
    "tags": [{"name": "p"}],
}
# No address that leads out of this host.
_ADDRESSES = st.sampled_from(
    ["http://127.0.0.1:1/x", "https://[::1]/x", "file:///etc/passwd", "http://", "x", "", "http://127.0.0.1:99999/"]
)
_SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "uri": _ADDRESSES,
    "url": _ADDRESSES,
    "path": st.sampled_from(
        ["/name", "/a", "/tags", "/visibility", "/locations/-", "/locations/0", "/owner", "/a~1b", "/min_ram", "x", "/"]
    ),
    "add": st.sampled_from(["/name", "/a", "/tags", "x"]),
    "remove": st.sampled_from(["/name", "/a", "/tags", "x"]),
    "replace": st.sampled_from(["/name", "/a", "/tags", "x"]),
    "disk_format": st.sampled_from(["raw", "qcow2", "iso", None]),
    "container_format": st.sampled_from(["bare", "ova", None]),
    "namespace": st.sampled_from(["n", "m"]),
    "name": st.sampled_from(["p", "q", "glance-direct", "web-download", "copy-image", "glance-download"]),
    "limit": st.sampled_from(["0", "1", "2000", "-1", "x", "9" * 30]),
    "marker": _IMAGES | st.sampled_from(["n", "p", "x"]),
    "sort": st.sampled_from(["name:asc,size:desc", "name", "x:asc", "name:x", ",", "name:asc,name:desc"]),
    "created_at": st.sampled_from(
        ["2026-01-01T00:00:00Z", "gt:2026-01-01T00:00:00Z", "lt:0001-01-01T00:00:00+14:00", "gt:x", "x:1", "neq:9999-12-31"]
    ),
    "visibility": st.sampled_from(["all", "public", "private", "shared", "community", "x"]),
    "Range": st.sampled_from(
        ["bytes=0-3", "bytes=-2", "bytes=99-", "bytes=1-0", "bytes=0-1,3-4", "x", "bytes=" + "9" * 30 + "-"]
    ),
    "If-Modified-Since": st.sampled_from(["Sun, 06 Nov 2044 08:49:37 GMT", "x", "Sun, 06 Nov 1994 08:49:37 -0000"]),
    "If-None-Match": st.sampled_from(["*", '"x"', "W/"]),
    "Upload-Offset": st.sampled_from(["0", "3", "x", "9" * 30, ""]),
    "Upload-Length": st.sampled_from(["0", "6", "x", "9" * 18, "9" * 30]),
    "Upload-Metadata": st.sampled_from(["image_id {queued64}", "image_id", "image_id !", ",", "a b,image_id {queued64}"]),
    "Upload-Checksum": st.sampled_from(["sha1 AAAA", "md5 !", "x y", "sha256", "sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk="]),
    "Tus-Resumable": st.sampled_from(["1.0.0", "1.0.0", "1.0.0", "0.2"]),
    "X-HTTP-Method-Override": st.sampled_from(["PATCH", "DELETE", "HEAD", "GET", ""]),
    "x-openstack-image-size": st.sampled_from(["6", "0", "7", "x", "9" * 18, "9" * 30]),
    "x-image-meta-store": st.sampled_from(["default", "none", ""]),
}


_ROLES = {"admin": "admin", "member": "member", "reader": "reader", "other": "member"}
_ASKING = st.sampled_from([*["admin"] * 5, *["member"] * 3, "reader", "other", "nobody"])


class Asked(NamedTuple):
    """A request: names in braces are filled in when it is sent. `who` asks, where the service asks who it is."""

    who: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def values(schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Returns values that are as a schema says, mostly."""
    if name in _SENSIBLE:
        return _SENSIBLE[name]
    kinds = schema.get("type", "anything")
    if "properties" in schema or kinds == "object":
        return _objects(schema)
    found = {
        "string": st.sampled_from(schema["enum"]) if "enum" in schema else (_IMAGES if "pattern" in schema else _TEXTS),
        "integer": st.integers(schema.get("minimum", -2), 1 << 40),
        "number": _NUMBERS,
        "boolean": st.booleans(),
        "null": st.none(),
        "array": st.lists(values(schema["items"]) if "items" in schema else _ANYTHING, max_size=3),
    }
    names = [kinds] if isinstance(kinds, str) else kinds
    return st.one_of(*(found.get(one, _ANYTHING) for one in names), *([_ANYTHING] if name else []))


def _objects(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    known = {name: values(one, name) for name, one in schema.get("properties", {}).items()}
    required = schema["required"] if isinstance(schema.get("required"), list) else []
    others = schema.get("additionalProperties")
    fixed = st.fixed_dictionaries(
        {name: one for name, one in known.items() if name in required},
        optional={name: one for name, one in known.items() if name not in required},
    )
    more = st.dictionaries(_TEXTS, values(others) if isinstance(others, dict) else _ANYTHING, max_size=1)
    return st.builds(lambda one, other: {**other, **one}, fixed, more)


def requests() -> st.SearchStrategy[Asked]:
    """Returns requests of all kinds."""
    return st.sampled_from(OPERATIONS).flatmap(requests_to)


@st.composite
def requests_to(draw: st.DrawFn, operation: tuple[str, str]) -> Asked:
    """Draws a request to one path by one method."""
    path, method = operation
    told = API["paths"][path][method]
    filled = re.sub(r"{(\w+)}", lambda found: _escaped(draw(_mostly(_NAMES.get(found[1], _TEXTS)))), path)
    query = "&".join(_pair(draw, one["name"]) for one in _some(draw, told, "query"))
    headers = {one["name"]: draw(_SENSIBLE.get(one["name"], st.just("x"))) for one in _some(draw, told, "header", most=9)}
    if draw(st.booleans()):
        headers["Accept"] = "application/json"
    kind, body = _body(draw, told.get("requestBody", {}).get("content", {}))
    if kind and "Content-Type" not in headers:
        headers["Content-Type"] = kind
    return Asked(draw(_ASKING), method.upper(), filled + ("?" + query if query else ""), headers, body)


def _mostly(sensible: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 7).flatmap(lambda chance: sensible if chance else _TEXTS)


def _some(draw: st.DrawFn, told: dict[str, Any], where: str, most: int = 3) -> list[dict[str, Any]]:
    found = [one for one in told["parameters"] if one["in"] == where]
    return draw(st.lists(st.sampled_from(found), max_size=most, unique_by=lambda one: one["name"])) if found else []


def _pair(draw: st.DrawFn, name: str) -> str:
    value = draw(_mostly(_SENSIBLE.get(name, _TEXTS)))
    return f"{name}={_escaped(str(value))}"


def _escaped(text: str) -> str:
    """Escapes all but what stands for something."""
    return text if re.fullmatch(r"{\w+}", text) else quote(text, safe="")


def _body(draw: st.DrawFn, content: dict[str, Any]) -> tuple[str, bytes]:
    if not content:
        return "", draw(st.sampled_from([b"", b"", b"", b"{}"]))
    kind = draw(st.sampled_from(sorted(content)))
    schema = content[kind].get("schema")
    if schema is None:
        return kind, draw(st.sampled_from([b"", b"abc", b"abcdef", b"QFI\xfb" + bytes(600), bytes(70000)]))
    schema = API["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    document = draw(st.one_of(values(schema), values(schema), values(schema), _ANYTHING))
    return kind, draw(st.sampled_from([json.dumps(document).encode()] * 9 + [b"{", b"\xff"]))


class Attack:
    """Sends requests to a service, each after the one before, and notes what is wrong with the answers."""

    def __init__(self, client: Client, log: list[str], tokens: Mapping[str, str]):
        self._client, self._log, self._tokens = client, log, tokens
        self._client.headers = {"X-Auth-Token": tokens["admin"]} if tokens else {}
        self._names = {"made": "none", "upload": "none", "task": "none"}

    def run(self, asked: Iterable[Asked]) -> None:
        """Sends requests about two images of their own, and a namespace. Raises `AssertionError` for an answer that is wrong."""
        images = [self._client.create(name=name, disk_format="raw", container_format="bare")["id"] for name in ("q", "a")]
        self._client.ask("PUT", f"/v2/images/{images[1]}/file", b"content", content_type="application/octet-stream")
        self._client.ask("POST", "/v2/metadefs/namespaces", _NAMESPACE)
        encoded = base64.b64encode(images[0].encode()).decode()
        self._names |= {"queued": images[0], "active": images[1], "queued64": encoded}
        for one in asked:
            self._ask(one)

    def _ask(self, asked: Asked) -> None:
        path = self._filled(asked.path)
        headers = {name: self._filled(value) for name, value in asked.headers.items()}
        if asked.who in self._tokens:
            headers["X-Auth-Token"] = self._tokens[asked.who]
        body = self._filled(asked.body.decode("latin-1")).encode("latin-1")
        connection = http.client.HTTPConnection("127.0.0.1", self._client.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(asked.method, path, body or None, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            data = answer.read()
        problems = [*faults(asked.method, path, answer.status, found, data), *self._log]
        self._log.clear()
        assert answer.status < 500, (answer.status, data, asked)
        assert not problems, (problems, asked)
        self._learn(answer.status, found, data)

    def _filled(self, text: str) -> str:
        return re.sub(r"{(\w+)}", lambda found: self._names.get(found[1], found[0]), text)

    def _learn(self, status: int, headers: dict[str, str], data: bytes) -> None:
        """Remembers what was made, for later requests."""
        location = headers.get("location", "")
        if "/uploads/" in location:
            self._names["upload"] = location.rpartition("/")[2]
        elif status in (201, 202) and "/v2/images/" in location:
            self._names["made"] = location.rpartition("/")[2]
        if data.startswith(b'{"tasks":[{"id":'):
            self._names["task"] = json.loads(data)["tasks"][0]["id"]


class _Tracebacks(logging.Handler):
    """Keeps what the service logs of errors."""

    def __init__(self, kept: list[str]):
        super().__init__(logging.ERROR)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(self.format(record))


@contextlib.contextmanager
def attacked(directory: Path, auth: str) -> Iterator[Attack]:
    """Gives an attack on a service of its own, which asks nobody ("none") or everybody ("tokens") who it is."""
    path = str(directory / "tokens")
    projects = {who: who if who == "other" else "project" for who in _ROLES}
    tokens = {who: add_token(path, who, projects[who], (role,)) for who, role in _ROLES.items()} if auth == "tokens" else {}
    kept: list[str] = []
    handler = _Tracebacks(kept)
    logging.getLogger().addHandler(handler)
    try:
        with running(directory, f"auth={auth}", f"tokens={path}") as client:
            yield Attack(client, kept, tokens)
    finally:
        logging.getLogger().removeHandler(handler)


def main() -> None:
    """Goes on until the time is over, or something is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.web.fuzzing", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--auth", choices=("none", "tokens"), default="tokens")
    parsed = parser.parse_args()
    ends, sent = time.monotonic() + parsed.minutes * 60, 0
    with tempfile.TemporaryDirectory() as folder, attacked(Path(folder), parsed.auth) as attack:

        @settings(deadline=None, max_examples=50, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(requests(), min_size=10, max_size=40))
        def some(asked: list[Asked]) -> None:
            nonlocal sent
            attack.run(asked)
            sent += len(asked)

        while time.monotonic() < ends:
            some()
            print(f"{sent} requests, all answered as is told", flush=True)


if __name__ == "__main__":
    main()
