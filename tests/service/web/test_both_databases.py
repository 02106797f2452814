"""The service gives the same answers over SQLite and over PostgreSQL, byte by byte, but for times."""

from __future__ import annotations

import contextlib
import re
import uuid
from urllib.parse import quote

import pytest
from sqlalchemy import update

from cowherd.service.records.database import open_database
from cowherd.service.records.schema import images
from tests.service.databases.postgresql import PostgreSQL
from tests.service.web.running import Client, running

_TIME = re.compile(rb'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"')
_ID = "00000000-0000-4000-8000-00000000000{:x}"
NAMES = ["a", "B", "b", "A b", "ab", "\u00e4", "z\u0308", "\U0001f42e", "\ufb01", "%", "_", "a'b\"c\\d", "", None]
"""Languages sort most of these otherwise than by code points, and UTF-16 has U+1F42E before U+FB01."""
SORTS = ["name", "status", "size", "disk_format", "container_format", "created_at", "updated_at", "id"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL):
    """Two services with the same images."""
    folder = tmp_path_factory.mktemp("both")
    clients = []
    with contextlib.ExitStack() as stack:
        for address in (f"sqlite:///{folder}/records", postgresql.create("both")):
            client = stack.enter_context(running(folder / address[:6], f"database={address}"))
            furnish(client, address)
            clients.append(client)
        yield clients


def furnish(client: Client, address: str) -> None:
    for number, name in enumerate(NAMES):
        facts = {"disk_format": ("raw", "qcow2", "iso")[number % 3], "container_format": ("bare", "ovf")[number % 2]}
        mixed = {"Key": "V", "key": name or "v", "min_ram": (1 << 31) - 1 if number % 4 == 0 else number}
        client.create(id=_ID.format(number), name=name, tags=["T"] * (number % 2) + ["t"] * (number % 3 == 0), **facts, **mixed)
    for number in (1, 5, 3):
        client.patch(_ID.format(number), ("replace", "/name", NAMES[number]), ("add", "/x", "\U0001f42e"))
    with contextlib.closing(open_database(address)) as database, database.write() as connection:
        for number, size in enumerate((1 << 31, (1 << 63) - 1, 1 << 32, 0, 7)):  # more than a test can upload
            connection.execute(update(images).where(images.c.id == _ID.format(number)).values(size=size, virtual_size=size))


def same(both: list[Client], path: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, bytes]:
    """Asks both; returns the answer that both give."""
    answers = [client.ask(method, path, body, **headers) for client in both]
    told = [(answer.status, _TIME.sub(b'"TIME"', answer.body)) for answer in answers]
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize(
    "sort", [*SORTS, "name:asc,size:desc", "size,name:desc", "disk_format:asc,container_format:desc,name:asc"]
)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_follow_each_other_in_the_same_order(both: list[Client], sort: str, direction: str):
    asked = f"sort={sort}" if ":" in sort or "," in sort else f"sort_key={sort}&sort_dir={direction}"
    seen = []
    path = f"/v2/images?limit=4&{asked}"
    while path:
        status, _ = same(both, path)
        assert status == 200
        page = both[0].get(path).json
        seen += [one["id"] for one in page["images"]]
        path = page.get("next")
    assert sorted(seen) == [_ID.format(number) for number in range(len(NAMES))]


@pytest.mark.parametrize(
    "asked",
    [
        *(f"name={quote(name)}" for name in NAMES if name),
        *(f"key={quote(name)}" for name in NAMES if name),
        "name=in:a,B,%22A%20b%22",
        "name=A",
        "name=",
        "tag=T",
        "tag=t&tag=T",
        "tag=%F0%9F%90%AE",
        "Key=V",
        "Key=v",
        "x=%F0%9F%90%AE",
        "min_ram=2147483647",
        "min_ram=2147483648",
        "size_min=2147483648",
        "size_max=4294967295",
        "size_min=9223372036854775807",
        "size_min=9223372036854775808",
        "min_ram=9223372036854775807",
        "min_ram=9223372036854775808",
        "min_ram=-9223372036854775809",
        "size_min=1",
        "size_max=100000000000000000000000000000",
        "size_min=-1",
        "created_at=gt:2000-01-01T00:00:00Z",
        "updated_at=lt:2000-01-01T00:00:00Z",
        "created_at=gt:9999-12-31T23:59:59Z",
        "name=%00",
        "name=a%00b",
        "tag=%00",
        "key=%00",
        "owner=%00",
        "id=%00",
        "marker=%00",
        "marker=nobody",
        "name=%ED%A0%80",
        "status=ACTIVE",
        "visibility=PUBLIC",
        "protected=true",
        "os_hidden=true",
        "limit=99999999999999999999",
        "key=" + "x" * 3000,
        "name=" + "x" * 3000,
    ],
)
def test_filters_find_the_same(both: list[Client], asked: str):
    status, _ = same(both, f"/v2/images?sort=name:asc&{asked}")
    assert status in (200, 400)


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "\0"},
        {"name": "\ud800"},
        {"name": "x" * 256},
        {"key": "a\0b"},
        {"k\0": "v"},
        {"tags": ["\0"]},
        {"tags": ["x" * 256]},
        {"min_ram": 1 << 31},
        {"min_ram": (1 << 63) - 1},
        {"min_ram": 1 << 63},
        {"min_disk": 10**30},
        {"key": "\U0001f42e" * 5000},
        {"key": "x" * 100_000},
        {"id": str(uuid.UUID(int=7)).upper()},
        {"owner": "\U0001f42e"},
        {"id": _ID.format(1)},
    ],
    ids=lambda facts: f"{facts}"[:40].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_refused_is_refused_alike(both: list[Client], facts: dict[str, object]):
    given = {"id": str(uuid.uuid4()), **facts}
    status, _ = same(both, "/v2/images", "POST", given)
    assert status in (201, 400, 409, 413)
    if status == 201:
        same(both, f"/v2/images/{given['id']}")
        assert same(both, f"/v2/images/{given['id']}", "DELETE")[0] == 204


def test_names_that_hold_what_no_database_takes_are_refused_alike(both: list[Client]):
    kept = _ID.format(1)
    for method, path in (
        ("PUT", f"/v2/images/{kept}/tags/a%00b"),
        ("PUT", f"/v2/images/{kept}/tags/%F0%9F%90%AE"),
        ("DELETE", f"/v2/images/{kept}/tags/%F0%9F%90%AE"),
        ("DELETE", f"/v2/images/{kept}/tags/%00"),
        ("GET", "/v2/images/%00"),
        ("GET", f"/v2/images/{kept}/members/%00"),
        ("DELETE", f"/v2/images/{kept}/members/%00"),
        ("GET", "/v2/tasks/%00"),
        ("GET", "/v2/tasks?status=%00&type=%00"),
        ("GET", "/v2/metadefs/namespaces/%00"),
        ("GET", "/v2/metadefs/namespaces?visibility=%00"),
        ("GET", "/v2/metadefs/namespaces?resource_types=%00"),
        ("DELETE", "/v2/cache/%00"),
    ):
        assert same(both, path, method)[0] < 500, path


def test_documents_hold_the_same_characters_or_are_refused_alike(both: list[Client]):
    for name, said in (("nul", "a\0b"), ("half", "\ud800"), ("cow", "\U0001f42e")):
        status, _ = same(both, "/v2/metadefs/namespaces", "POST", {"namespace": name, "description": said})
        assert status in (201, 400)
        same(both, f"/v2/metadefs/namespaces/{name}")
        body = {
            "type": "import",
            "input": {"import_from": f"http://x/{said}", "import_from_format": "raw", "image_properties": {}},
        }
        assert same(both, "/v2/tasks", "POST", body)[0] in (201, 400)
        importing = {"method": {"name": "web-download", "uri": f"https://x/{said}"}}
        assert same(both, f"/v2/images/{_ID.format(0)}/import", "POST", importing)[0] < 500
    same(both, "/v2/metadefs/namespaces")


def test_definitions_are_kept_and_sorted_alike(both: list[Client]):
    for name in ("b", "B", "\u00e4", "a"):
        assert same(both, "/v2/metadefs/namespaces", "POST", {"namespace": name, "description": "\U0001f42e"})[0] == 201
        for inner in ("z", "Z", "\u00e9"):
            body = {"name": inner, "title": inner, "type": "integer", "default": 1 << 70}
            assert same(both, f"/v2/metadefs/namespaces/{quote(name)}/properties", "POST", body)[0] in (201, 400)
            assert same(both, f"/v2/metadefs/namespaces/{quote(name)}/tags/{quote(inner)}", "POST")[0] == 201
        same(both, f"/v2/metadefs/namespaces/{quote(name)}/tags")
        same(both, f"/v2/metadefs/namespaces/{quote(name)}/properties")
    same(both, "/v2/metadefs/namespaces?limit=2")
    same(both, "/v2/metadefs/namespaces?limit=2&marker=b")
    assert same(both, "/v2/metadefs/namespaces", "POST", {"namespace": "b"})[0] == 409
    assert same(both, "/v2/metadefs/namespaces/b", "PUT", {"namespace": "c"})[0] == 200
    same(both, "/v2/metadefs/namespaces/c")
