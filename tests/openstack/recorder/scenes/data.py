"""Bytes: uploads and downloads, and what is refused."""

from __future__ import annotations

from tests.openstack.recorder.request import (
    JSON,
    OCTETS,
    Request,
    Scene,
    ask,
    create,
    delete,
    get,
    patch,
    post,
    unrecorded,
    upload,
)

_A = "/v2/images/{a}"
_FILE = f"{_A}/file"
_MISSING = "/v2/images/11111111-2222-4333-8444-555555555558/file"


def _put(body: bytes | None = b"some bytes", who: str = "member", path: str = _FILE, note: str = "", **headers: str) -> Request:
    given = {"Content-Type": OCTETS, **{key.replace("_", "-"): value for key, value in headers.items()}}
    return ask("PUT", path, who, body, headers={key: value for key, value in given.items() if value}, note=note)


def _range(value: str) -> Request:
    return get(_FILE, headers={"Range": value})


UPLOADED = Scene(
    "upload",
    [
        *unrecorded(create("a")),
        get(_FILE, note="no data"),
        _put(Content_Type="text/plain"),
        _put(Content_Type=JSON),
        _put(Content_Type=""),
        _put(Content_Type="application/octet-stream; charset=utf-8"),
        get(_A),
        *unrecorded(create("a")),
        _put(who="reader"),
        _put(who="alt"),
        _put(who="nobody"),
        _put(x_image_meta_store="nothing"),
        _put(x_openstack_image_size="3"),
        _put(x_openstack_image_size="x"),
        _put(x_openstack_image_size="-1"),
        get(_A),
        _put(x_openstack_image_size="10"),
        get(_A),
        get(_FILE),
        get(_FILE, "reader"),
        get(_FILE, "alt"),
        get(_FILE, "admin"),
        get(_FILE, "nobody"),
        _put(note="again"),
        _put(b"other", note="again"),
        get(_A),
        _put(path=_MISSING),
        _put(path="/v2/images/x/file"),
        get(_MISSING),
        get("/v2/images/x/file"),
        *unrecorded(create("a")),
        _put(Transfer_Encoding="chunked"),
        get(_A),
        *unrecorded(create("a")),
        _put(b""),
        get(_A),
        get(_FILE),
        *unrecorded(create("a")),
        ask("PUT", _FILE, headers={"Content-Type": OCTETS}),
        get(_A),
        *unrecorded(create("a")),
        _put(X_Image_Meta_Store="fast"),
        get(_A),
        get(_A, "admin"),
        *unrecorded(post("/v2/images", {"name": "n"}, keep=(("a", "id"),))),
        _put(note="no formats"),
        get(_A),
        *unrecorded(post("/v2/images", {"name": "n", "disk_format": "raw"}, keep=(("a", "id"),))),
        _put(note="no container format"),
        *unrecorded(create("a"), delete(_A)),
        _put(note="deleted"),
        get(_FILE, note="deleted"),
    ],
)

_QCOW2 = b"QFI\xfb\0\0\0\3" + bytes(504)
FORMATS = Scene(
    "upload formats",
    [
        request
        for kind in ("raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "iso", "ploop", "ami")
        for request in (
            *unrecorded(create("a", disk_format=kind, **({"container_format": "ami"} if kind == "ami" else {}))),
            _put(b"no image at all", note=kind),
            get(_A, note=f"after {kind}"),
        )
    ]
    + [
        request
        for name, kind, container, data in (
            ("qcow2 header", "qcow2", "bare", _QCOW2),
            ("qcow2 header as raw", "raw", "bare", _QCOW2),
            ("qcow2 header, empty", "qcow2", "bare", b""),
            ("qcow2 header as vdi", "vdi", "bare", _QCOW2),
            ("qcow2 in ovf", "qcow2", "ovf", b"no image at all"),
            ("version 9", "qcow2", "bare", b"QFI\xfb\0\0\0\x09" + bytes(504)),
            ("backing", "qcow2", "bare", b"QFI\xfb\0\0\0\3" + bytes(7) + b"\x70" + bytes(496)),
            ("gpt", "raw", "bare", bytes(510) + b"\x55\xaa" + bytes(512)),
        )
        for request in (
            *unrecorded(create("a", disk_format=kind, container_format=container)),
            _put(data, note=name),
            get(_A, note=f"after {name}"),
        )
    ],
)

RANGES = Scene(
    "ranges",
    [
        *unrecorded(create("a"), upload("a", b"0123456789")),
        *map(
            _range,
            (
                "bytes=0-0",
                "bytes=0-9",
                "bytes=2-4",
                "bytes=5-",
                "bytes=-3",
                "bytes=0-99",
                "bytes=10-",
                "bytes=10-12",
                "bytes=9-3",
                "bytes=-0",
                "bytes=-99",
                "bytes=0-1,3-4",
                "bytes=",
                "bytes=x-y",
                "bytes",
                "items=0-1",
                "Bytes=0-1",
                "bytes=0-1 ",
                "bytes=99999999999999999999-",
            ),
        ),
        get(_FILE, headers={"Content-Range": "bytes 0-3/10"}),
        get(_FILE, headers={"Content-Range": "bytes 0-3/*"}),
        get(_FILE, headers={"Content-Range": "bytes 20-30/*"}),
        get(_FILE, headers={"If-None-Match": "*"}),
        get(_FILE, headers={"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}),
        get(_FILE, headers={"Accept-Encoding": "gzip"}),
        get(_FILE, headers={"Accept": "application/json"}),
        get(f"{_FILE}?x=y"),
        ask("HEAD", _FILE),
        ask("HEAD", _A),
    ],
)

ACTIONS = Scene(
    "actions",
    [
        *unrecorded(create("a")),
        *(post(f"{_A}/actions/{name}", who="admin", note="queued") for name in ("deactivate", "reactivate")),
        *unrecorded(upload("a")),
        *(post(f"{_A}/actions/deactivate", who=who) for who in ("nobody", "reader", "alt", "member")),
        get(_A),
        get(_FILE),
        get(_FILE, "reader"),
        get(_FILE, "admin"),
        post(f"{_A}/actions/deactivate", note="again"),
        patch(_A, [{"op": "replace", "path": "/name", "value": "while deactivated"}]),
        post(f"{_A}/actions/reactivate", who="reader"),
        post(f"{_A}/actions/reactivate"),
        post(f"{_A}/actions/reactivate", who="admin", note="again"),
        post(f"{_A}/actions/deactivate", who="admin"),
        get(_A, "admin"),
        post(f"{_A}/actions/reactivate", {"x": 1}, "admin"),
        get(_FILE),
        post("/v2/images/11111111-2222-4333-8444-555555555559/actions/deactivate", who="admin"),
        post("/v2/images/x/actions/deactivate", who="admin"),
        post(f"{_A}/actions/deactivate", who="admin"),
        delete(_A),
    ],
)

SCENES = (UPLOADED, FORMATS, RANGES, ACTIONS)
