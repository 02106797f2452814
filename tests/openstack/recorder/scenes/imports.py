"""Staging, importing, tasks, stores, locations and the cache."""

from __future__ import annotations

from typing import Any

from tests.openstack.recorder.request import OCTETS, Request, Scene, ask, create, delete, get, post, put, unrecorded, upload

_A = "/v2/images/{a}"
_MISSING = "/v2/images/11111111-2222-4333-8444-55555555555c"
_ACTIVE = ("status", "active")


def _stage(body: bytes = b"staged", who: str = "member", path: str = _A, kind: str = OCTETS, **more: Any) -> Request:
    return ask("PUT", f"{path}/stage", who, body, headers={"Content-Type": kind}, **more)


def _import(method: dict[str, Any], who: str = "member", path: str = _A, note: str = "", **more: Any) -> Request:
    return post(f"{path}/import", {"method": method, **more}, who, note=note)


def _fresh(request: Request) -> list[Request]:
    """The request, of an image that is staged for it: an import that was accepted locks its image."""
    return [*unrecorded(create("a"), _stage()), request]


_DIRECT = {"name": "glance-direct"}

STAGED = Scene(
    "stage",
    [
        *unrecorded(create("a")),
        _import(_DIRECT, note="not staged"),
        _stage(kind="text/plain"),
        _stage(who="reader"),
        _stage(who="alt"),
        _stage(who="nobody"),
        _stage(),
        get(_A),
        _stage(note="again"),
        ask("PUT", f"{_A}/file", body=b"direct", headers={"Content-Type": OCTETS}),
        get(f"{_A}/file"),
        _stage(path=_MISSING),
        _stage(path="/v2/images/x"),
        _import(_DIRECT, "reader"),
        _import(_DIRECT, "alt"),
        _import(_DIRECT),
        get(_A, until=_ACTIVE),
        get(f"{_A}/file"),
        get(f"{_A}/tasks"),
        get(f"{_A}/tasks", "reader"),
        get(f"{_A}/tasks", "alt"),
        get(f"{_A}/tasks", "admin"),
        get(f"{_MISSING}/tasks"),
        _import(_DIRECT, note="active"),
        _stage(note="active"),
        *unrecorded(create("a"), _stage()),
        delete(_A, note="staged"),
    ],
)

IMPORTED = Scene(
    "import",
    [
        *unrecorded(create("a"), _stage()),
        *(
            post(f"{_A}/import", body)
            for body in ({}, {"method": {}}, {"method": "glance-direct"}, {"method": {"name": 7}}, [], None, 7)
        ),
        *(_import({"name": name}) for name in ("nothing", "", "web-download", "glance-download", "copy-image")),
        ask("POST", f"{_A}/import", body=b"{", headers={"Content-Type": "application/json"}),
        ask("POST", f"{_A}/import", body=b"", headers={"Content-Type": "application/json"}),
        ask("POST", f"{_A}/import", body=b'{"method":{"name":"glance-direct"}}', headers={"Content-Type": "text/plain"}),
        *(
            request
            for value in (["nothing"], ["cheap", "nothing"], "cheap", [7], {})
            for request in _fresh(_import(_DIRECT, stores=value))
        ),
        *_fresh(_import(_DIRECT, stores=["web"])),
        *_fresh(_import(_DIRECT, stores=["cheap"], all_stores=True)),
        *(request for value in ("true", 7) for request in _fresh(_import(_DIRECT, all_stores=value))),
        *_fresh(_import(_DIRECT, all_stores_must_succeed="x")),
        *_fresh(post(f"{_A}/import", {"method": _DIRECT}, headers={"X-Image-Meta-Store": "nothing"})),
        *unrecorded(create("a"), _stage()),
        _import(_DIRECT, stores=["cheap", "fast"]),
        get(_A, until=_ACTIVE),
        get(_A, "admin"),
        *unrecorded(create("a"), _stage()),
        _import(_DIRECT, all_stores=True, all_stores_must_succeed=False),
        get(_A, until=_ACTIVE),
        *_fresh(_import(_DIRECT, stores=[])),
    ],
)

WEB = Scene(
    "web-download",
    [
        *(
            request
            for uri in (
                "",
                "x",
                "file:///etc/passwd",
                "ftp://127.0.0.1/x",
                "http://",
                "http://127.0.0.1:1/x",
                "http://169.254.169.254/latest",
                "http://[::1]/x",
                "http://localhost/x",
                "http://2130706433/x",
                "http://0x7f.1/x",
                "https://127.0.0.1/x",
                7,
                None,
            )
            for request in (*unrecorded(create("a")), _import({"name": "web-download", "uri": uri}))
        ),
        *unrecorded(create("a")),
        _import({"name": "web-download", "uri": "{web}/image.raw"}),
        get(_A, until=_ACTIVE),
        get(f"{_A}/file"),
        get(f"{_A}/tasks"),
        *unrecorded(create("a", disk_format="qcow2")),
        _import({"name": "web-download", "uri": "{web}/image.qcow2"}),
        get(_A, until=_ACTIVE),
        *unrecorded(post("/v2/images", {"name": "n"}, keep=(("a", "id"),))),
        _import({"name": "web-download", "uri": "{web}/image.raw"}, note="no formats"),
        _import({"name": "web-download", "uri": "{web}/image.raw"}, path=_MISSING),
    ],
)

COPIED = Scene(
    "stores",
    [
        *unrecorded(create("a"), upload("a")),
        get(_A),
        _import({"name": "copy-image"}, stores=["nothing"]),
        _import({"name": "copy-image"}, "alt", stores=["fast"]),
        _import({"name": "copy-image"}, stores=["fast"]),
        *(_import({"name": "copy-image"}, "admin", stores=value) for value in (["nothing"], ["web"])),
        _import({"name": "copy-image"}, "admin", stores=["fast"]),
        get(_A, until=("stores", "cheap,fast"), note="copied"),
        get(_A, "admin", note="copied"),
        get("/v2/images?stores=fast", note="copied"),
        delete("/v2/stores/nothing/{a}", "admin"),
        delete("/v2/stores/fast/{a}"),
        delete("/v2/stores/fast/{a}", "alt"),
        delete("/v2/stores/fast/{a}", "reader"),
        delete("/v2/stores/fast/{a}", "admin"),
        delete("/v2/stores/fast/{a}", "admin", note="again"),
        delete("/v2/stores/cheap/{a}", "admin", note="last"),
        delete(f"/v2/stores/cheap/{_MISSING[-36:]}", "admin"),
        get(f"{_A}/file?prefer=fast,cheap"),
        get(f"{_A}/file?prefer=nothing"),
        *unrecorded(create("q")),
        _import({"name": "copy-image"}, path="/v2/images/{q}", stores=["fast"], note="queued"),
        delete("/v2/stores/cheap/{q}", "admin", note="queued"),
    ],
)

LOCATIONS = Scene(
    "locations",
    [
        *unrecorded(create("a")),
        *(get(f"{_A}/locations", who) for who in ("member", "alt", "admin", "service", "reader", "nobody")),
        *(
            post(f"{_A}/locations", body)
            for body in ({}, [], {"url": 7}, {"url": ""}, {"url": "x"}, {"url": "file:///etc/passwd"}, {"url": "nothing://x"})
        ),
        post(f"{_A}/locations", {"url": "{web}/image.raw", "validation_data": {"os_hash_algo": "sha512"}}),
        post(f"{_A}/locations", {"url": "{web}/image.raw", "validation_data": {"os_hash_algo": "x", "os_hash_value": "y"}}),
        post(f"{_A}/locations", {"url": "{web}/image.raw", "validation_data": {"checksum": "y"}}),
        post(f"{_A}/locations", {"url": "{web}/image.raw"}, "alt"),
        post(f"{_A}/locations", {"url": "{web}/image.raw"}, "reader"),
        post(f"{_A}/locations", {"url": "{web}/image.raw"}),
        get(_A, until=_ACTIVE),
        get(f"{_A}/locations", "service"),
        post(f"{_A}/locations", {"url": "{web}/image.raw"}, note="again"),
        get(f"{_MISSING}/locations", "service"),
        post(f"{_MISSING}/locations", {"url": "{web}/image.raw"}),
    ],
)

TASKS = Scene(
    "tasks",
    [
        *(get("/v2/tasks", who) for who in ("member", "reader", "admin", "nobody")),
        *(get(f"/v2/tasks/{name}", who) for name in ("x", _MISSING[-36:]) for who in ("member", "admin")),
        *(
            post("/v2/tasks", body, "admin")
            for body in (
                {},
                [],
                {"type": "nothing", "input": {}},
                {"type": "import"},
                {"type": "import", "input": {}},
                {"type": "import", "input": "x"},
                {"type": "import", "input": {}, "status": "success"},
                {"type": "import", "input": {}, "more": "x"},
            )
        ),
        post("/v2/tasks", {"type": "import", "input": {}}),
        *(
            get(f"/v2/tasks?{query}", "admin")
            for query in (
                "limit=0",
                "limit=x",
                "limit=-1",
                "marker=x",
                "sort_key=x",
                "sort_dir=x",
                "type=nothing",
                "status=x",
                "type=import&limit=1",
            )
        ),
        delete(f"/v2/tasks/{_MISSING[-36:]}", "admin"),
    ],
)

CACHE = Scene(
    "cache",
    [
        *unrecorded(create("a"), upload("a")),
        *(get("/v2/cache", who) for who in ("member", "reader", "nobody", "admin")),
        *(put("/v2/cache/{a}", who=who) for who in ("member", "admin")),
        put(f"/v2/cache/{_MISSING[-36:]}", who="admin"),
        put("/v2/cache/x", who="admin"),
        *(delete("/v2/cache/{a}", who) for who in ("member", "admin")),
        delete("/v2/cache/{a}", "admin", note="again"),
        delete("/v2/cache/x", "admin"),
        *(
            delete("/v2/cache", "admin", headers={"x-image-cache-clear-target": target})
            for target in ("cache", "queue", "both", "x")
        ),
        delete("/v2/cache"),
        delete("/v2/cache", "admin"),
        *(
            ask(method, f"/v2/cache/{action}", who)
            for action in ("clean", "prune")
            for method in ("POST", "GET")
            for who in ("member", "admin")
        ),
        *(get("/v2/cache/nodes/{a}", who) for who in ("member", "admin")),
        *(get(path, "admin") for path in ("/v1/cached_images", "/v2/cached_images", "/v2/queued_images")),
    ],
)

SCENES = (STAGED, IMPORTED, WEB, COPIED, LOCATIONS, TASKS, CACHE)
