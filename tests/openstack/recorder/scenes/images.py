"""Creating, showing and deleting images."""

from __future__ import annotations

from typing import Any

from tests.openstack.recorder.request import JSON, Scene, ask, create, delete, get, post, unrecorded, upload

_ID = "11111111-2222-4333-8444-555555555555"


def _created(**values: Any) -> Any:
    return post("/v2/images", values)


CREATED = Scene(
    "create",
    [
        post("/v2/images", {}, keep=(("empty", "id"),)),
        get("/v2/images/{empty}"),
        _created(name="plain"),
        _created(name=None),
        _created(name=""),
        _created(name="x" * 255),
        _created(name="x" * 256),
        _created(name=7),
        _created(name="Ünï\U0001f402"),
        _created(name="line\nbreak"),
        _created(name="nul\0"),
        _created(disk_format="qcow2", container_format="bare", min_disk=3, min_ram=256),
        *(
            _created(disk_format=kind)
            for kind in ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "vdi", "iso", "ploop", "gpt")
        ),
        *(_created(disk_format=kind) for kind in ("nothing", "", "QCOW2", None, 7, "luks")),
        *(
            _created(container_format=kind)
            for kind in ("ami", "ari", "aki", "ovf", "ova", "docker", "compressed", "nothing", None, 7)
        ),
        _created(disk_format="ami"),
        _created(disk_format="ami", container_format="bare"),
        _created(disk_format="qcow2", container_format="aki"),
        *(_created(visibility=kind) for kind in ("private", "shared", "community", "public", "all", "", None, 7)),
        post("/v2/images", {"visibility": "public"}, "admin"),
        *(_created(protected=value) for value in (True, False, "true", None, 1)),
        *(_created(os_hidden=value) for value in (True, False, "true", None, 1)),
        *(_created(min_ram=value) for value in (0, 1, -1, 2**31 - 1, 2**31, 2**63, "1", 1.5, None)),
        *(_created(min_disk=value) for value in (0, -1, 2**31, "1", None)),
        post("/v2/images", {"id": _ID}),
        post("/v2/images", {"id": _ID}),
        *(_created(id=value) for value in ("not-a-uuid", "", None, 7, _ID.upper(), _ID.replace("-", ""))),
        *(
            _created(**{key: value})
            for key, value in {
                "status": "active",
                "checksum": "x",
                "os_hash_algo": "sha512",
                "os_hash_value": "x",
                "size": 1,
                "virtual_size": 1,
                "created_at": "2020-01-01T00:00:00Z",
                "updated_at": "2020-01-01T00:00:00Z",
                "self": "/x",
                "file": "/x",
                "schema": "/x",
                "direct_url": "file:///x",
                "stores": "cheap",
                "location": "x",
                "deleted": "x",
                "deleted_at": "x",
                "os_glance_x": "y",
                "os_glance_import_task": "y",
                "is_public": "true",
                "locations": [],
                "members": "x",
            }.items()
        ),
        _created(locations=[{"url": "file:///etc/passwd", "metadata": {}}]),
        _created(owner="{project}"),
        _created(owner="{alt_project}"),
        _created(owner=None),
        post("/v2/images", {"owner": "{alt_project}"}, "admin"),
        post("/v2/images", {"owner": "o" * 255}, "admin"),
        post("/v2/images", {"owner": "o" * 256}, "admin"),
    ],
)

PROPERTIES = Scene(
    "create properties",
    [
        _created(colour="blue", hw_disk_bus="virtio", architecture="x86_64"),
        *(
            _created(colour=value)
            for value in ("", "x" * 255, "x" * 256, "x" * 65_000, 7, 1.5, True, None, [], {}, ["a"], {"a": "b"})
        ),
        *(
            _created(**{key: "v"})
            for key in ("x" * 255, "x" * 256, "", "with space", "with/slash", "with~tilde", "Ünï", "a.b", "a\nb", "a\0b")
        ),
        *(_created(**{key: "v"}) for key in ("Name", "NAME", "img_signature", "os_hash", "kernel_id", "ramdisk_id", "cowherd_x")),
        _created(kernel_id=_ID),
        _created(kernel_id="not-an-id"),
        post("/v2/images", {f"p{number}": "v" for number in range(128)}, note="128"),
        post("/v2/images", {f"p{number}": "v" for number in range(129)}, note="129"),
        _created(tags=["b", "a"]),
        _created(tags=["a", "a"]),
        _created(tags=[]),
        *(
            _created(tags=value)
            for value in ("a", None, {}, [1], [None], [["a"]], [""], ["x" * 255], ["x" * 256], ["ü"], ["a/b"], ["a,b"])
        ),
        post("/v2/images", {"tags": [f"t{number}" for number in range(128)]}, note="128 tags"),
        post("/v2/images", {"tags": [f"t{number}" for number in range(129)]}, note="129 tags"),
    ],
)

BODIES = Scene(
    "create bodies",
    [
        *(
            ask("POST", "/v2/images", body=body, headers={"Content-Type": JSON})
            for body in (
                b"",
                b"{",
                b"[]",
                b"null",
                b"7",
                b'"x"',
                b"[{}]",
                b'{"name": "a", "name": "b"}',
                b'{"name": NaN}',
                b'{"x": 1e400}',
                b"\xff\xfe",
                b'{"name": "\\ud800"}',
                b'\xef\xbb\xbf{"name": "bom"}',
                b"{" * 5000,
                b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
            )
        ),
        *(
            ask("POST", "/v2/images", body=b'{"name": "a"}', headers={"Content-Type": kind})
            for kind in (
                "text/plain",
                "application/x-www-form-urlencoded",
                "application/json; charset=utf-8",
                "application/xml",
                "",
                "json",
            )
        ),
        ask("POST", "/v2/images", body=b'{"name": "chunked"}', headers={"Content-Type": JSON, "Transfer-Encoding": "chunked"}),
        ask("POST", "/v2/images", note="no body"),
        ask("POST", "/v2/images?name=query", body={"name": "a"}),
    ],
)

SHOWN = Scene(
    "show and delete",
    [
        create("a", colour="blue", tags=["t"]),
        get("/v2/images/{a}"),
        get("/v2/images/{a}", "reader"),
        get("/v2/images/{a}", "alt"),
        get("/v2/images/{a}", "admin"),
        get(f"/v2/images/{_ID}"),
        get("/v2/images/x"),
        upload("a"),
        get("/v2/images/{a}"),
        get("/v2/images/{a}", "admin"),
        delete("/v2/images/{a}", "reader"),
        delete("/v2/images/{a}", "alt"),
        delete("/v2/images/{a}"),
        delete("/v2/images/{a}"),
        get("/v2/images/{a}"),
        post("/v2/images", {"id": "{a}"}, note="a deleted id again"),
        *unrecorded(create("b", protected=True)),
        delete("/v2/images/{b}"),
        delete("/v2/images/{b}", "admin"),
        *unrecorded(create("c", who="admin", visibility="public")),
        get("/v2/images/{c}"),
        delete("/v2/images/{c}"),
        delete("/v2/images/{c}", "admin"),
        *unrecorded(create("d", visibility="community")),
        get("/v2/images/{d}", "alt"),
        delete("/v2/images/{d}", "alt"),
        delete("/v2/images/{d}", body={"x": 1}),
        delete(f"/v2/images/{_ID}"),
        delete("/v2/images/x"),
    ],
)

SCENES = (CREATED, PROPERTIES, BODIES, SHOWN)
