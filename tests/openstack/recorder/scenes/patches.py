"""Changing images: both media types, every operation, every property."""

from __future__ import annotations

from typing import Any

from tests.openstack.recorder.request import (
    JSON,
    OCTETS,
    PATCH_20,
    PATCH_21,
    Request,
    Scene,
    ask,
    create,
    get,
    patch,
    unrecorded,
    upload,
)

_A = "/v2/images/{a}"


def _one(operation: str, path: str, *value: Any, who: str = "member") -> Request:
    change = {"op": operation, "path": path, **({"value": value[0]} if value else {})}
    return patch(_A, [change], who)


def _old(operation: str, path: str, *value: Any) -> Request:
    return patch(_A, [{operation: path, **({"value": value[0]} if value else {})}], kind=PATCH_20)


OPERATIONS = Scene(
    "patch",
    [
        *unrecorded(create("a", colour="blue", tags=["t"])),
        patch(_A, []),
        _one("replace", "/name", "new"),
        _one("add", "/name", "added"),
        _one("remove", "/name"),
        _one("replace", "/name", None),
        _one("replace", "/name", "x" * 256),
        _one("replace", "/name", 7),
        _one("add", "/colour", "red"),
        _one("add", "/size2", "L"),
        _one("replace", "/colour", "green"),
        _one("replace", "/missing", "x"),
        _one("remove", "/colour"),
        _one("remove", "/colour"),
        _one("add", "/number", 7),
        _one("add", "/list", ["x"]),
        _one("add", "/nothing", None),
        *(_one(operation, "/size2", "x") for operation in ("move", "copy", "test", "", "ADD")),
        *(
            _one("add", path, "v")
            for path in ("", "/", "x", "//", "/a/b", "/a/", "/tilde~0", "/slash~1", "/bad~2", "/ü", "/a b", "/" + "x" * 256)
        ),
        _one("add", "/no-value"),
        _one("replace", "/name"),
        patch(_A, [{"op": "add", "value": "x"}]),
        patch(_A, [{"path": "/x", "value": "x"}]),
        patch(_A, [{"op": "add", "path": 7, "value": "x"}]),
        patch(_A, [{"op": "add", "path": "/extra", "value": "x", "from": "/y"}]),
        *(patch(_A, body) for body in ({}, None, "x", 7, [7], [[]], [{}], {"op": "add", "path": "/x", "value": "y"})),
        patch(_A, [{"op": "add", "path": "/first", "value": "1"}, {"op": "replace", "path": "/missing", "value": "2"}]),
        get(_A),
        patch(_A, [{"op": "add", "path": "/one", "value": "1"}, {"op": "replace", "path": "/one", "value": "2"}]),
        patch(_A, [{"op": "add", "path": "/two", "value": "1"}, {"op": "remove", "path": "/two"}]),
        patch(_A, [{"op": "add", "path": f"/p{number}", "value": "v"} for number in range(140)], note="140 properties"),
        get(_A),
    ],
)

BASE_PROPERTIES = Scene(
    "patch base",
    [
        *unrecorded(create("a")),
        *(
            _one(operation, f"/{key}", *([] if operation == "remove" else [value]))
            for key, value in {
                "id": "11111111-2222-4333-8444-555555555555",
                "status": "active",
                "checksum": "x",
                "os_hash_algo": "x",
                "os_hash_value": "x",
                "size": 7,
                "virtual_size": 7,
                "created_at": "2020-01-01T00:00:00Z",
                "updated_at": "2020-01-01T00:00:00Z",
                "self": "x",
                "file": "x",
                "schema": "x",
                "stores": "cheap",
                "direct_url": "x",
                "deleted": "x",
                "deleted_at": "x",
                "location": "x",
                "os_glance_x": "x",
                "min_ram": 64,
                "min_disk": 2,
                "protected": False,
                "os_hidden": True,
                "disk_format": "qcow2",
                "container_format": "ovf",
                "visibility": "community",
                "tags": ["x", "y"],
            }.items()
            for operation in ("add", "replace", "remove")
        ),
        get(_A),
        *(_one("replace", "/min_ram", value) for value in (-1, "7", 2**31, None, 1.5)),
        *(_one("replace", "/protected", value) for value in ("true", None, 1)),
        *(_one("replace", "/disk_format", value) for value in ("nothing", None)),
        *(_one("replace", "/container_format", value) for value in ("nothing", None)),
        *(_one("replace", "/visibility", value) for value in ("public", "private", "shared", "all", None)),
        *(_one("replace", "/tags", value) for value in ("x", [1], ["x" * 256], [], ["a", "a", "b"])),
        *(_one("add", path, "z") for path in ("/tags/-", "/tags/0")),
    ],
)

OWNER = Scene(
    "patch owner",
    [
        request
        for who in ("member", "admin")
        for operation, value in (
            ("remove", ()),
            ("add", ("{alt_project}",)),
            ("replace", ("{alt_project}",)),
            ("replace", (None,)),
        )
        for request in (*unrecorded(create("a")), _one(operation, "/owner", *value, who=who), get(_A), get(_A, "admin"))
    ],
)

OLD_KIND = Scene(
    "patch 2.0",
    [
        *unrecorded(create("a", colour="blue")),
        _old("replace", "/name", "new"),
        _old("add", "/name", "x"),
        _old("add", "/colour", "x"),
        _old("add", "/shape", "round"),
        _old("remove", "/shape"),
        _old("remove", "/shape"),
        _old("remove", "/name"),
        _old("replace", "/missing", "x"),
        _old("replace", "/colour"),
        _old("move", "/colour", "x"),
        _old("add", "colour2", "x"),
        patch(_A, [{"op": "add", "path": "/x", "value": "y"}], kind=PATCH_20),
        patch(_A, [{"add": "/x", "replace": "/y", "value": "z"}], kind=PATCH_20),
        patch(_A, [{"replace": "/name", "value": "z"}], kind=PATCH_21),
        patch(_A, [{}], kind=PATCH_20),
        get(_A),
    ],
)

MEDIA_TYPES = Scene(
    "patch media types",
    [
        *unrecorded(create("a")),
        *(
            ask("PATCH", _A, body=b'[{"op": "replace", "path": "/name", "value": "n"}]', headers={"Content-Type": kind})
            for kind in (
                JSON,
                "application/json-patch+json",
                OCTETS,
                "text/plain",
                "",
                "application/openstack-images-v2.2-json-patch",
                "application/openstack-images-v2.1-json-patch; charset=utf-8",
                "Application/OpenStack-Images-v2.1-JSON-Patch",
            )
        ),
        ask("PATCH", _A, body=b"{", headers={"Content-Type": PATCH_21}),
        ask("PATCH", _A, body=b"", headers={"Content-Type": PATCH_21}),
        ask("PATCH", _A, headers={"Content-Type": PATCH_21}),
        ask("PATCH", _A),
        patch("/v2/images/11111111-2222-4333-8444-555555555556", [{"op": "replace", "path": "/name", "value": "n"}]),
        patch("/v2/images/x", [{"op": "replace", "path": "/name", "value": "n"}]),
        patch(_A, [{"op": "replace", "path": "/name", "value": "n"}], "reader"),
        patch(_A, [{"op": "replace", "path": "/name", "value": "n"}], "alt"),
        patch(_A, [{"op": "replace", "path": "/name", "value": "n"}], "admin"),
        patch(_A, [{"op": "replace", "path": "/name", "value": "n"}], "nobody"),
    ],
)

ACTIVE = Scene(
    "patch active",
    [
        *unrecorded(create("a"), upload("a")),
        *(
            _one("replace", f"/{key}", value)
            for key, value in (("disk_format", "qcow2"), ("container_format", "ovf"), ("disk_format", "raw"))
        ),
        _one("replace", "/min_disk", 5),
        _one("replace", "/protected", True),
        _one("replace", "/protected", False),
        _one("replace", "/os_hidden", True),
        *(_one("replace", "/visibility", value) for value in ("private", "community", "shared")),
        get(_A),
    ],
)

LOCATIONS = Scene(
    "patch locations",
    [
        *unrecorded(create("a")),
        *(
            _one("add", "/locations/-", value)
            for value in (
                {"url": "file:///etc/passwd", "metadata": {}},
                {"url": "nothing://x", "metadata": {}},
                {"url": "{web}/missing", "metadata": {}},
                {"url": "{web}/image.raw"},
                {"url": 7, "metadata": {}},
                {"metadata": {}},
                "x",
            )
        ),
        _one("replace", "/locations", []),
        _one("add", "/locations/-", {"url": "{web}/image.raw", "metadata": {"a": "b"}}),
        get(_A),
        _one("add", "/locations/-", {"url": "{web}/image.raw", "metadata": {}}),
        _one("add", "/locations/1", {"url": "{web}/image.raw#2", "metadata": {}}),
        _one("replace", "/locations/0", {"url": "{web}/image.raw#3", "metadata": {}}),
        _one("remove", "/locations/9"),
        _one("remove", "/locations/1"),
        _one("remove", "/locations/0"),
        get(_A),
        _one("replace", "/locations", [{"url": "{web}/image.raw", "metadata": {}}]),
        get(f"{_A}/file"),
        get(f"{_A}/locations"),
        get(f"{_A}/locations", "admin"),
        get(f"{_A}/locations", "service"),
    ],
)

SCENES = (OPERATIONS, BASE_PROPERTIES, OWNER, OLD_KIND, MEDIA_TYPES, ACTIVE, LOCATIONS)
