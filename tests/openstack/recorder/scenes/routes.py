"""Every path with every method that it does not take."""

from __future__ import annotations

from tests.openstack.recorder.request import Scene, ask, create, unrecorded

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TAKEN = {
    "/v2/images": "GET POST",
    "/v2/images/{a}": "GET PATCH DELETE",
    "/v2/images/{a}/file": "GET PUT",
    "/v2/images/{a}/stage": "PUT",
    "/v2/images/{a}/import": "POST",
    "/v2/images/{a}/tasks": "GET",
    "/v2/images/{a}/locations": "GET POST",
    "/v2/images/{a}/actions/deactivate": "POST",
    "/v2/images/{a}/actions/reactivate": "POST",
    "/v2/images/{a}/tags/x": "PUT DELETE",
    "/v2/images/{a}/members": "GET POST",
    "/v2/images/{a}/members/m": "GET PUT DELETE",
    "/v2/stores/cheap/{a}": "DELETE",
    "/v2/info/import": "GET",
    "/v2/info/stores": "GET",
    "/v2/info/stores/detail": "GET",
    "/v2/info/usage": "GET",
    "/v2/cache": "GET DELETE",
    "/v2/cache/{a}": "PUT DELETE",
    "/v2/tasks": "GET POST",
    "/v2/tasks/{a}": "GET",
    **{f"/v2/schemas/{name}": "GET" for name in ("image", "images", "member", "members", "task", "tasks", "metadefs/namespace")},
    "/v2/metadefs/namespaces": "GET POST",
    "/v2/metadefs/namespaces/n": "GET PUT DELETE",
    "/v2/metadefs/namespaces/n/objects": "GET POST DELETE",
    "/v2/metadefs/namespaces/n/objects/o": "GET PUT DELETE",
    "/v2/metadefs/namespaces/n/properties": "GET POST DELETE",
    "/v2/metadefs/namespaces/n/properties/p": "GET PUT DELETE",
    "/v2/metadefs/namespaces/n/tags": "GET POST DELETE",
    "/v2/metadefs/namespaces/n/tags/t": "GET POST PUT DELETE",
    "/v2/metadefs/namespaces/n/resource_types": "GET POST",
    "/v2/metadefs/namespaces/n/resource_types/r": "DELETE",
    "/v2/metadefs/resource_types": "GET",
}

REJECTED = Scene(
    "methods",
    [
        *unrecorded(create("a")),
        *(ask(method, path) for path, taken in _TAKEN.items() for method in _METHODS if method not in taken.split()),
        ask("TRACE", "/v2/images"),
        ask("FETCH", "/v2/images"),
    ],
)

PATHS = Scene(
    "paths",
    [
        *unrecorded(create("a")),
        *(
            ask("GET", f"/v2/images{end}")
            for end in (
                "/",
                "/{a}/",
                "/not-an-id",
                "/{a}/nothing",
                "/{a}%00",
                "/{a}%0a",
                "/%2e%2e",
                "/..",
                "/{a}/file/",
                "/{a}/members/",
                "/{a}/actions",
                "/{a}/actions/nothing",
                "/{a}/tags",
                "/" + "x" * 300,
                "/%c3%28",
                "?limit=1;sort=name:asc",
            )
        ),
        ask("POST", "/v2/images/{a}/actions/nothing"),
        ask("GET", "/V2/images"),
        ask("GET", "/v2//images"),
        ask("GET", "/v2/images/{a}?x=%00"),
    ],
)

SCENES = (REJECTED, PATHS)
