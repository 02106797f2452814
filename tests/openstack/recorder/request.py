"""A request as data, and the words in which scenes are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

JSON, OCTETS = "application/json", "application/octet-stream"
PATCH_20 = "application/openstack-images-v2.0-json-patch"
PATCH_21 = "application/openstack-images-v2.1-json-patch"
_LONGEST_SHOWN = 100


@dataclass(frozen=True)
class Request:
    """What is asked, and by whom.

    `{name}` in a path, a header or a body stands for what an earlier request of the scene kept under that name, or for
    project, alt_project, admin_project, host, keystone and web (a web server with images). `keep`: name -> key of the
    answer's JSON. `until`: a GET is asked again until the answer's JSON has this value under this key. `recorded`: whether
    the answer is compared.
    """

    method: str
    path: str
    who: str = "member"
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    keep: tuple[tuple[str, str], ...] = ()
    until: tuple[str, str] | None = None
    recorded: bool = True
    note: str = ""

    @property
    def title(self) -> str:
        """What names the request in a table: method, path, the start of the body, who asks, and the note."""
        shown = (self.body or b"")[:_LONGEST_SHOWN].decode(errors="replace")
        kinds = " ".join(f"{key}: {value[:_LONGEST_SHOWN]}" for key, value in self.headers if (key, value) not in _USUAL)
        who = "" if self.who == "member" else f"as {self.who}"
        return " ".join(filter(None, [self.method, self.path[:200], shown, kinds, who, self.note and f"({self.note})"]))


_USUAL = (("Content-Type", JSON), ("Content-Type", OCTETS))


@dataclass(frozen=True)
class Scene:
    """Requests in their order, on a service that has no images before."""

    name: str
    requests: Sequence[Request]

    def titled(self) -> list[tuple[str, Request]]:
        """Returns the requests with a title of their own each: repeated ones are numbered."""
        seen: dict[str, int] = {}
        pairs = []
        for request in self.requests:
            number = seen[request.title] = seen.get(request.title, 0) + 1
            pairs.append((f"{self.name}: {request.title}" + (f" #{number}" if number > 1 else ""), request))
        return pairs


def ask(method: str, path: str, who: str = "member", body: Any = None, **more: Any) -> Request:
    """Returns a request; a body that is neither None nor bytes is sent as JSON. `headers` is a dict."""
    headers = dict(more.pop("headers", {}))
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", JSON)
    return Request(method, path, who, body, tuple(headers.items()), **more)


def get(path: str, who: str = "member", **more: Any) -> Request:
    """Returns a GET."""
    return ask("GET", path, who, **more)


def post(path: str, body: Any = None, who: str = "member", **more: Any) -> Request:
    """Returns a POST of JSON."""
    return ask("POST", path, who, body, **more)


def put(path: str, body: Any = None, who: str = "member", **more: Any) -> Request:
    """Returns a PUT of JSON."""
    return ask("PUT", path, who, body, **more)


def delete(path: str, who: str = "member", **more: Any) -> Request:
    """Returns a DELETE."""
    return ask("DELETE", path, who, **more)


def patch(path: str, operations: Any, who: str = "member", kind: str = PATCH_21, **more: Any) -> Request:
    """Returns a PATCH of an image."""
    return ask("PATCH", path, who, operations, headers={"Content-Type": kind}, **more)


def create(name: str, who: str = "member", **values: Any) -> Request:
    """Returns the creation of an image whose id is kept as `name`, of format raw unless `values` say else."""
    body = {"name": name, "disk_format": "raw", "container_format": "bare", **values}
    return post("/v2/images", body, who, keep=((name, "id"),))


def upload(name: str, data: bytes = b"some bytes", who: str = "member") -> Request:
    """Returns the upload of an image's bytes."""
    return ask("PUT", f"/v2/images/{{{name}}}/file", who, data, headers={"Content-Type": OCTETS})


def unrecorded(*requests: Request) -> list[Request]:
    """Returns requests that only prepare what others ask."""
    return [replace(request, recorded=False) for request in requests]
