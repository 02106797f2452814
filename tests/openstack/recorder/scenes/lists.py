"""Lists of images: pages, sorts, filters."""

from __future__ import annotations

from tests.openstack.recorder.request import Request, Scene, create, get, unrecorded, upload

_IMAGES = unrecorded(
    create("ant", colour="red", tags=["x", "y"], min_ram=1, min_disk=9),
    create("bee", colour="blue", tags=["x"], min_ram=2, min_disk=8, disk_format="qcow2", visibility="private"),
    create("cat", colour="red", tags=["y"], min_ram=3, min_disk=7, visibility="community"),
    create("dog", tags=[], min_ram=4, min_disk=6, disk_format="iso", protected=True),
    create("eel", os_hidden=True, min_ram=5, min_disk=5),
    create("fox", who="admin", visibility="public", colour="red"),
    create("gnu", who="alt", visibility="community"),
    create("hen", who="alt", visibility="shared"),
    create("in:x", min_ram=6, container_format="ovf"),
    create("a,b", min_ram=7),
    upload("ant", b"1"),
    upload("cat", b"333"),
    upload("fox", b"22"),
)


def _listed(*queries: str, who: str = "member") -> list[Request]:
    return [get(f"/v2/images?{query}", who) for query in queries]


PAGES = Scene(
    "list pages",
    [
        get("/v2/images", note="empty"),
        *_IMAGES,
        get("/v2/images"),
        get("/v2/images", "reader"),
        get("/v2/images", "alt"),
        get("/v2/images", "admin"),
        *_listed(
            "limit=0",
            "limit=1",
            "limit=3",
            "limit=1000",
            "limit=1001",
            "limit=99999999999999999999",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1.5",
        ),
        *_listed("limit=2&limit=3", "limit=2&sort=name:asc", "limit=2&sort=name:asc&marker={ant}", "limit=6&sort=name:asc"),
        *_listed("limit=2&colour=red&sort_key=name&sort_dir=asc", "limit=2&name=in:ant,bee,cat&sort=name", "limit=1&tag=x&tag=y"),
        *_listed("limit=1&name=%C3%BC%26%3D", "limit=1&status=queued&sort_key=name&sort_key=id&sort_dir=asc"),
        *_listed("marker={cat}&sort=name:asc", "marker={cat}&sort=name:desc", "marker={cat}"),
        *_listed(
            "marker=x",
            "marker=11111111-2222-4333-8444-555555555557",
            "marker=",
            "marker={hen}",
            "marker={eel}",
            "marker={ant}&marker={bee}",
        ),
        *_listed("marker={fox}&visibility=private", "marker={dog}&tag=x&sort=name:asc"),
    ],
)

SORTS = Scene(
    "list sorts",
    [
        *_IMAGES,
        *(
            request
            for key in ("name", "status", "container_format", "disk_format", "size", "created_at", "updated_at")
            for request in _listed(
                f"sort={key}&limit=1", f"sort={key}:asc,name:asc", f"sort_key={key}&sort_dir=desc&sort_key=name&sort_dir=asc"
            )
            if key not in ("created_at", "updated_at") or "asc,name" not in request.path
        ),
        *_listed(
            "sort=created_at:asc", "sort=updated_at:asc", "sort=created_at:desc", "sort_dir=asc", "sort_dir=desc", "sort_key=name"
        ),
        *_listed(
            "sort=min_ram",
            "sort=owner",
            "sort=colour",
            "sort=",
            "sort=name:",
            "sort=name:up",
            "sort=:asc",
            "sort=name:asc:desc",
            "sort=,",
        ),
        *_listed(
            "sort=checksum",
            "sort=visibility",
            "sort=min_disk:asc",
            "sort=protected",
            "sort=tags",
            "sort_key=min_ram",
            "sort_key=checksum",
        ),
        *_listed(
            "sort_key=",
            "sort_key=x",
            "sort_dir=up",
            "sort_dir=",
            "sort_key=name&sort_dir=asc&sort_dir=desc",
            "sort=name&sort_key=name",
        ),
        *_listed(
            "sort=name&sort_dir=asc",
            "sort=name:asc&sort=size:desc",
            "sort=name,name",
            "sort=name:ASC",
            "sort_key=name&sort_key=name&sort_dir=asc",
        ),
        *_listed(
            "sort_key=name&sort_key=size&sort_dir=asc&sort_dir=desc",
            "sort_key=name&sort_key=size&sort_key=id&sort_dir=asc&sort_dir=desc",
        ),
        *_listed("sort=size:asc,name:desc", "sort=status:desc,name:asc", "sort=disk_format:asc,name:asc&limit=2"),
    ],
)

FILTERS = Scene(
    "list filters",
    [
        *_IMAGES,
        *_listed(
            "name=ant",
            "name=ANT",
            "name=in:ant,bee",
            "name=in:",
            "name=in:ant",
            "name=a,b",
            'name=in:"a,b",ant',
            "name=in:x",
            'name=in:"in:x"',
        ),
        *_listed(
            'name=in:"a,b"x',
            'name=in:"a',
            "name=in:a,,b",
            "name=",
            "name=%25",
            "name=a%25",
            "name=_nt",
            "name=ant&name=bee",
            "name=nothing",
        ),
        *_listed("id={ant}", "id=in:{ant},{bee}", "id=x", "id={ant}&id={bee}", "id=in:x,y", "id=in:"),
        *_listed(
            "status=active",
            "status=queued",
            "status=in:active,queued",
            "status=x",
            "status=in:x,active",
            "status=deleted",
            "status=ACTIVE",
            "status=",
        ),
        *_listed(
            "disk_format=raw", "disk_format=in:raw,iso", "disk_format=x", "container_format=ovf", "container_format=in:ovf,bare"
        ),
        *_listed(
            "size_min=2",
            "size_max=2",
            "size_min=1&size_max=2",
            "size_min=x",
            "size_min=-1",
            "size_min=",
            "size_max=1.5",
            "size_min=3&size_max=1",
        ),
        *_listed(
            "size=3",
            "size=x",
            "min_ram=3",
            "min_ram=x",
            "min_disk=9",
            "min_ram_min=3",
            "min_ram_max=3",
            "min_disk_min=8",
            "min_disk_max=6",
            "min_ram_min=x",
        ),
        *_listed("size_min=99999999999999999999", "min_ram=-1", "min_ram_min=-1", "virtual_size=1"),
        *_listed(
            "visibility=public",
            "visibility=private",
            "visibility=shared",
            "visibility=community",
            "visibility=all",
            "visibility=x",
            "visibility=",
        ),
        *_listed("visibility=all", "visibility=community", "visibility=shared", "visibility=private", who="admin"),
        *_listed("visibility=all", "visibility=community", "visibility=shared", who="alt"),
        *_listed("owner={project}", "owner={alt_project}", "owner=", "owner=x"),
        *_listed(
            "owner={alt_project}", "owner={alt_project}&visibility=all", "owner={alt_project}&visibility=community", who="admin"
        ),
        *_listed("protected=true", "protected=false", "protected=True", "protected=1", "protected=x", "protected="),
        *_listed(
            "os_hidden=true",
            "os_hidden=false",
            "os_hidden=True",
            "os_hidden=x",
            "os_hidden=true&name=ant",
            "os_hidden=1",
            "os_hidden=",
        ),
        *_listed("checksum=c4ca4238a0b923820dcc509a6f75849b", "checksum=x", "os_hash_value=x", "os_hash_algo=sha512"),
        *_listed("tag=x", "tag=x&tag=y", "tag=y&tag=nothing", "tag=", "tag=X", "tag=" + "x" * 256),
        *_listed(
            "colour=red",
            "colour=blue",
            "colour=RED",
            "colour=red&tag=x",
            "colour=red&colour=blue",
            "colour=in:red,blue",
            "colour=",
            "shape=round",
        ),
        *_listed(
            "colour=red&name=ant",
            "unknown=x",
            "is_public=true",
            "is_public=none",
            "deleted=true",
            "deleted=false",
            "Name=ant",
            "%C3%BC=x",
            "a%00b=c",
        ),
        *_listed("name=a%00", "name=%ff", "name=%C3", "&&", "=", "a", "colour", "x" * 300 + "=y"),
        *_listed(
            "member_status=pending",
            "member_status=accepted",
            "member_status=rejected",
            "member_status=all",
            "member_status=x",
            "member_status=",
        ),
        *_listed("member_status=pending&visibility=shared", "member_status=all&visibility=all"),
        *_listed("changes-since=2020-01-01T00:00:00Z", "changes_since=2020-01-01T00:00:00Z"),
        *_listed(
            "first=1",
            "next=1",
            "kernel_id=x",
            "locations=x",
            "file=x",
            "self=x",
            "schema=x",
            "stores=cheap",
            "tags=x",
            "updated_at=x",
        ),
    ],
)

_LONG_AGO, _FAR = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
TIMES = Scene(
    "list times",
    [
        *unrecorded(create("ant"), create("bee")),
        *(
            request
            for key in ("created_at", "updated_at")
            for request in _listed(
                *(
                    f"{key}={operator}:{when}&sort=name:asc"
                    for operator in ("gt", "gte", "lt", "lte", "eq", "neq")
                    for when in (_LONG_AGO, _FAR)
                ),
                f"{key}={_LONG_AGO}",
                f"{key}=x:{_LONG_AGO}",
                f"{key}=gt:x",
                f"{key}=gt:",
                f"{key}=gt:2020-01-01",
                f"{key}=gt:2020-01-01T00:00:00",
                f"{key}=gt:2020-01-01T00:00:00%2B02:00",
                f"{key}=gt:2020-01-01T00:00:00.5Z",
                f"{key}=gt:2020-13-01T00:00:00Z",
                f"{key}=gt:{_LONG_AGO}&{key}=lt:{_FAR}",
                f"{key}=gt:{_FAR}&{key}=lt:{_LONG_AGO}",
                f"{key}=",
            )
        ),
    ],
)

SCENES = (PAGES, SORTS, FILTERS, TIMES)
