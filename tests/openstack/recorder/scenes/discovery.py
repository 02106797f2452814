"""Versions, schemas, what the service says of itself, and how it takes callers without a token."""

from __future__ import annotations

from tests.openstack.recorder.request import Scene, ask, create, get, unrecorded

_MISSING = "/v2/images/00000000-0000-4000-8000-000000000000"

VERSIONS = Scene(
    "versions",
    [
        *(
            get(path, who)
            for who in ("member", "nobody")
            for path in ("/", "/versions", "/versions/", "/v2", "/v2/", "/v1", "/v1/images", "/v3/images", "/v2.5/images", "/vx")
        ),
        *(
            get(path)
            for path in ("/v2.0/images", "/v2.9/images", "/v2.17/images", "/images", "/nothing", "/v2/nothing", "//v2/images")
        ),
        get("/v2", headers={"Accept": "application/json"}),
        get("/images", headers={"Accept": "application/vnd.openstack.images-v2"}),
        get("/images", headers={"Accept": "application/vnd.openstack.images-v9"}),
        get("/images", headers={"Accept": "application/vnd.openstack.images-v2.5"}),
        *(ask(method, path) for path in ("/", "/versions") for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS")),
        get("/healthcheck", "nobody"),
        get("/healthcheck", "nobody", headers={"Accept": "application/json"}),
        ask("HEAD", "/healthcheck", "nobody"),
    ],
)

SCHEMAS = Scene(
    "schemas",
    [
        *(
            get(f"/v2/schemas/{name}")
            for name in (
                "image",
                "images",
                "member",
                "members",
                "task",
                "tasks",
                "nothing",
                "image/",
                *(f"metadefs/{kind}" for kind in ("namespace", "namespaces", "resource_type", "resource_types")),
                *(f"metadefs/{kind}" for kind in ("property", "properties", "object", "objects", "tag", "tags", "nothing")),
            )
        ),
        get("/v2/schemas"),
        get("/v2/schemas/image", "nobody"),
        get("/v2/schemas/image", "reader"),
    ],
)

INFO = Scene(
    "info",
    [
        get(path, who)
        for path in ("/v2/info/import", "/v2/info/stores", "/v2/info/stores/detail", "/v2/info/usage", "/v2/info", "/v2/info/x")
        for who in ("member", "admin", "reader", "nobody")
    ],
)

TOKENS = Scene(
    "tokens",
    [
        *(
            request
            for who in ("nobody", "forged")
            for request in (
                get("/v2/images", who),
                get("/v2/images", who, headers={"Accept": "application/json"}),
                get(_MISSING, who),
                get("/v2/nothing", who),
                ask("POST", "/v2/images", who, {"name": "x"}),
                ask("DELETE", _MISSING, who),
                ask("PUT", f"{_MISSING}/file", who, b"x", headers={"Content-Type": "application/octet-stream"}),
                get("/v2/metadefs/namespaces", who),
                get("/v2/tasks", who),
                ask("PATCH", "/v2/images", who),
            )
        ),
        get("/v2/images", "nobody", headers={"X-Auth-Token": ""}),
        get("/v2/images", "nobody", headers={"X-Identity-Status": "Confirmed", "X-Roles": "admin"}),
        get("/v2/images", "nobody", headers={"X-Auth-Token": "a" * 5000}, note="long"),
    ],
)

REQUEST_IDS = Scene(
    "request ids",
    [
        *unrecorded(create("a")),
        get("/v2/images/{a}", headers={"X-Openstack-Request-Id": "req-mine"}),
        get("/v2/images/{a}", headers={"X-OpenStack-Request-ID": "x" * 64}),
        get("/v2/images/{a}", headers={"X-OpenStack-Request-ID": "x" * 65}),
        get(_MISSING, headers={"X-OpenStack-Request-ID": "req-mine"}),
        get("/v2/images/{a}", headers={"Accept": "text/html"}),
        get("/v2/images/{a}", headers={"Accept": "application/xml"}),
        *(
            get(_MISSING, headers={"Accept": kind})
            for kind in (
                "application/json",
                "text/html",
                "text/plain",
                "*/*",
                "application/xml",
                "text/html, application/json;q=0.9",
            )
        ),
    ],
)

SCENES = (VERSIONS, SCHEMAS, INFO, TOKENS, REQUEST_IDS)
