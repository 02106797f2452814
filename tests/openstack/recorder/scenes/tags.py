"""Tags of images."""

from __future__ import annotations

from tests.openstack.recorder.request import Scene, ask, create, delete, get, unrecorded

_A = "/v2/images/{a}"
_NAMES = ("x", "X", "with%20space", "%C3%BC", "a%2Fb", "a,b", "%0a", "%00", "x" * 255, "x" * 256, "%ff", "1", "..")

TAGS = Scene(
    "tags",
    [
        *unrecorded(create("a")),
        *(ask("PUT", f"{_A}/tags/{name}") for name in _NAMES),
        ask("PUT", f"{_A}/tags/x", note="again"),
        ask("PUT", f"{_A}/tags/"),
        ask("PUT", f"{_A}/tags/y", body={"x": 1}),
        *(ask("PUT", f"{_A}/tags/z", who) for who in ("reader", "alt", "admin", "nobody")),
        get(_A),
        *(delete(f"{_A}/tags/{name}") for name in _NAMES),
        delete(f"{_A}/tags/x", note="again"),
        *(delete(f"{_A}/tags/y", who) for who in ("reader", "alt", "nobody")),
        get(_A, note="after"),
        *(
            ask(method, f"/v2/images/{image}/tags/x")
            for image in ("11111111-2222-4333-8444-55555555555b", "x")
            for method in ("PUT", "DELETE")
        ),
        *unrecorded(*(ask("PUT", f"{_A}/tags/many{number}") for number in range(128))),
        ask("PUT", f"{_A}/tags/one-more", note="quota"),
    ],
)

SCENES = (TAGS,)
