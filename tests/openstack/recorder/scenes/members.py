"""Sharing images with other projects."""

from __future__ import annotations

from typing import Any

from tests.openstack.recorder.request import Request, Scene, ask, create, delete, get, patch, post, put, unrecorded

_A = "/v2/images/{a}"
_ALL = f"{_A}/members"
_ALT = f"{_ALL}/{{alt_project}}"


def _add(member: Any = "{alt_project}", who: str = "member", **more: Any) -> Request:
    return post(_ALL, {"member": member}, who, **more)


MEMBERS = Scene(
    "members",
    [
        *unrecorded(create("a")),
        get(_ALL),
        get(_ALT),
        _add(who="reader"),
        _add(who="alt"),
        _add(who="nobody"),
        _add(),
        _add(note="again"),
        get(_ALL),
        get(_ALT),
        *(get(path, who) for path in (_ALL, _ALT, _A) for who in ("alt", "admin", "reader")),
        get("/v2/images", "alt", note="pending"),
        *(
            get(f"/v2/images?member_status={value}", "alt", note="pending")
            for value in ("pending", "accepted", "rejected", "all", "x")
        ),
        get("/v2/images?visibility=shared&member_status=pending", "alt", note="pending"),
        *(put(_ALT, {"status": value}) for value in ("accepted", "rejected")),
        *(put(_ALT, {"status": value}, "alt") for value in ("x", "", None, 7, "ACCEPTED")),
        put(_ALT, {}, "alt"),
        put(_ALT, [], "alt"),
        put(_ALT, {"status": "accepted", "more": "x"}, "alt"),
        ask("PUT", _ALT, "alt", b"{", headers={"Content-Type": "application/json"}),
        put(_ALT, {"status": "accepted"}, "alt"),
        get(_ALT, "alt"),
        get("/v2/images", "alt", note="accepted"),
        get("/v2/images?visibility=shared", "alt", note="accepted"),
        *(
            get(f"/v2/images?member_status={value}", "alt", note="accepted")
            for value in ("pending", "accepted", "rejected", "all")
        ),
        get("/v2/images?owner={project}", "alt", note="accepted"),
        put(_ALT, {"status": "rejected"}, "alt"),
        get("/v2/images", "alt", note="rejected"),
        get(_A, "alt", note="rejected"),
        *(
            get(f"/v2/images?member_status={value}", "alt", note="rejected")
            for value in ("pending", "accepted", "rejected", "all")
        ),
        put(_ALT, {"status": "pending"}, "alt"),
        put(_ALT, {"status": "accepted"}, "admin"),
        put(f"{_ALL}/nobody-there", {"status": "accepted"}, "admin"),
        *(ask(method, _A, "alt", note="a member's") for method in ("DELETE",)),
        patch(_A, [{"op": "replace", "path": "/name", "value": "x"}], "alt"),
        _add("third", "alt"),
        delete(_ALT, "alt"),
        delete(_ALT, "reader"),
        delete(f"{_ALL}/nobody-there"),
        delete(_ALT),
        delete(_ALT, note="again"),
        get(_ALL, note="after"),
        get(_A, "alt", note="after"),
    ],
)

BODIES = Scene(
    "member bodies",
    [
        *unrecorded(create("a")),
        *(_add(value) for value in ("", "x" * 255, "x" * 256, 7, None, [], "ü", "a/b", "{project}")),
        post(_ALL, {}),
        post(_ALL, []),
        post(_ALL, {"member": "m", "more": "x"}),
        post(_ALL, {"tenant": "m"}),
        ask("POST", _ALL, body=b"{", headers={"Content-Type": "application/json"}),
        ask("POST", _ALL, body=b"", headers={"Content-Type": "application/json"}),
        ask("POST", _ALL, body=b'{"member": "m2"}', headers={"Content-Type": "text/plain"}),
        get(_ALL),
        *unrecorded(*(_add(f"many{number}") for number in range(130))),
        _add("one-more", note="quota"),
    ],
)

VISIBILITIES = Scene(
    "member visibilities",
    [
        request
        for visibility in ("private", "community", "public")
        for request in (
            *unrecorded(create("a", who="admin", visibility=visibility)),
            _add(who="admin", note=visibility),
            get(_ALL, "admin", note=visibility),
            get(_ALT, "admin", note=visibility),
            put(_ALT, {"status": "accepted"}, "admin", note=visibility),
            delete(_ALT, "admin", note=visibility),
            get(_ALL, note=visibility),
        )
    ]
    + [
        _add_missing
        for path in ("/v2/images/11111111-2222-4333-8444-55555555555a/members", "/v2/images/x/members")
        for _add_missing in (
            get(path),
            post(path, {"member": "m"}),
            get(f"{path}/m"),
            delete(f"{path}/m"),
            put(f"{path}/m", {"status": "accepted"}),
        )
    ]
    + [
        *unrecorded(create("a"), _add(), patch(_A, [{"op": "replace", "path": "/visibility", "value": "private"}])),
        get(_A, "alt", note="private again"),
        get(_ALL, note="private again"),
        *unrecorded(patch(_A, [{"op": "replace", "path": "/visibility", "value": "shared"}])),
        get(_ALL, note="shared again"),
    ],
)

SCENES = (MEMBERS, BODIES, VISIBILITIES)
