"""Pages of images: what is seen, filtered, sorted, and where a page begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from cowherd.errors import InvalidRequest
from cowherd.service.records.faults import MarkerNotFound
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, delete_image
from cowherd.service.records.pages import Moment, Query, Viewer, page
from cowherd.service.records.schema import members

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
MINE, THEIRS, ADMIN, NOBODY = Viewer("mine"), Viewer("theirs"), Viewer("admin", everything=True), Viewer(None)


def create(connection, *ids: str, **fields) -> None:
    for image_id in ids:
        count = connection.exec_driver_sql("SELECT count(*) FROM images").scalar()
        create_image(connection, Image(id=image_id, created_at=FIRST + timedelta(minutes=count), **fields))


def lend(connection, image_id: str, member: str, status: str = "accepted") -> None:
    row = {"image_id": image_id, "member": member, "status": status, "created_at": FIRST, "updated_at": FIRST}
    connection.execute(insert(members), row)


def ids(connection, viewer: Viewer = MINE, **query) -> list[str]:
    return [image.id for image in page(connection, Query(**query), viewer)]


@pytest.fixture
def herd(connection):
    for owner in ("mine", "theirs"):
        for visibility in ("private", "shared", "community", "public"):
            create(connection, f"{owner}-{visibility}", owner=owner, visibility=visibility)
    for status in ("pending", "rejected", "accepted"):
        create(connection, f"lent-{status}", owner="theirs", visibility="shared")
        lend(connection, f"lent-{status}", "mine", status)
    create(connection, "was-lent", owner="theirs", visibility="private")
    lend(connection, "was-lent", "mine")
    create(connection, "mine-hidden", owner="mine", os_hidden=True)
    create(connection, "theirs-hidden", owner="theirs", os_hidden=True)
    return connection


OWN = {"mine-private", "mine-shared", "mine-community", "mine-public"}
ALL = OWN | {name.replace("mine", "theirs") for name in OWN} | {"lent-pending", "lent-rejected", "lent-accepted", "was-lent"}


# Asked for by a name that every image has, they are found in another way.
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("viewer", "asked", "seen"),
    [
        (MINE, {}, OWN | {"theirs-public", "lent-accepted"}),
        (MINE, {"visibility": "all"}, OWN | {"theirs-public", "theirs-community", "lent-accepted"}),
        (MINE, {"visibility": "private"}, {"mine-private"}),
        (MINE, {"visibility": "shared"}, {"mine-shared", "lent-accepted"}),
        (MINE, {"visibility": "community"}, {"mine-community", "theirs-community"}),
        (MINE, {"visibility": "public"}, {"mine-public", "theirs-public"}),
        (MINE, {"visibility": "shared", "member_status": "pending"}, {"mine-shared", "lent-pending"}),
        (MINE, {"member_status": "rejected"}, OWN | {"theirs-public", "lent-rejected"}),
        (
            MINE,
            {"visibility": "shared", "member_status": "all"},
            {"mine-shared", "lent-pending", "lent-rejected", "lent-accepted"},
        ),
        (MINE, {"os_hidden": True}, {"mine-hidden"}),
        (NOBODY, {}, {"mine-public", "theirs-public"}),
        (NOBODY, {"visibility": "all"}, {"mine-public", "theirs-public", "mine-community", "theirs-community"}),
        (NOBODY, {"visibility": "shared"}, set()),
        (ADMIN, {}, ALL - {"mine-community", "theirs-community"}),
        (ADMIN, {"visibility": "all"}, ALL),
        (ADMIN, {"visibility": "private"}, {"mine-private", "theirs-private", "was-lent"}),
        (ADMIN, {"os_hidden": True}, {"mine-hidden", "theirs-hidden"}),
        (Viewer("mine", everything=True), {}, ALL - {"theirs-community"}),
    ],
)
def test_a_viewer_sees(herd, named, viewer, asked, seen):
    herd.exec_driver_sql("UPDATE images SET name = 'x'")
    found = ids(herd, viewer, choices={"name": ["x"]} if named else {}, **asked)
    assert len(found) == len(set(found))
    assert set(found) == seen


def test_a_lent_image_of_ones_own_stands_on_a_page_once(connection):
    create(connection, "a", owner="mine", visibility="shared")
    lend(connection, "a", "mine")
    assert ids(connection) == ["a"]


def test_the_newest_come_first(connection):
    create(connection, "a", "c", "b", owner="mine")
    assert ids(connection) == ["b", "c", "a"]


def test_images_of_one_moment_are_sorted_by_id(connection):
    for image_id in ("b", "c", "a"):
        create_image(connection, Image(id=image_id, owner="mine", created_at=FIRST))
    assert ids(connection) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("sort", "sorted_ids"),
    [
        ([("name", False)], ["none", "B", "a", "b"]),
        ([("name", True)], ["b", "a", "B", "none"]),
        ([("size", False)], ["none", "b", "a", "B"]),
        ([("id", False)], ["B", "a", "b", "none"]),
        ([("created_at", False)], ["b", "none", "a", "B"]),
        ([("status", False), ("name", True)], ["b", "a", "B", "none"]),
        ([("disk_format", True), ("size", False)], ["none", "b", "a", "B"]),
    ],
)
def test_a_page_is_sorted_and_can_begin_after_each_of_its_images(connection, sort, sorted_ids):
    create(connection, "b", name="b", owner="mine", size=1)
    create(connection, "none", owner="mine")
    create(connection, "a", name="a", owner="mine", size=5)
    create(connection, "B", name="B", owner="mine", size=7)
    assert ids(connection, sort=sort) == sorted_ids
    for place, marker in enumerate(sorted_ids):
        assert ids(connection, sort=sort, marker=marker, limit=2) == sorted_ids[place + 1 :][:2]


@pytest.mark.parametrize("viewer", [MINE, ADMIN, NOBODY])
@pytest.mark.parametrize("query", [{}, {"tags": ["t"]}, {"properties": {"k": "v"}}, {"choices": {"name": ["n"]}}], ids=str)
def test_a_walk_gives_every_image_once(connection, viewer, query):
    for number in range(23):
        visibility = ("private", "public")[number % 2]
        create(connection, f"{number}", owner="mine", visibility=visibility, name="n", tags=("t",), properties={"k": "v"})
    whole = ids(connection, viewer, limit=1000, **query)
    walked, marker = [], None
    while found := ids(connection, viewer, limit=5, marker=marker, **query):
        walked, marker = walked + found, found[-1]
    assert walked == whole
    assert len(whole) == (23 if viewer is not NOBODY else 11)


@pytest.mark.parametrize("marker", ["gone", "theirs", "", "x\ny", "%"])
def test_a_marker_that_the_viewer_does_not_see_is_refused(connection, marker):
    create(connection, "mine", owner="mine")
    create(connection, "theirs", owner="theirs", visibility="private")
    create(connection, "gone", owner="mine")
    delete_image(connection, "gone")
    with pytest.raises(MarkerNotFound):
        ids(connection, marker=marker)


@pytest.mark.parametrize("visibility", ["community", "shared"])
def test_a_marker_may_be_of_any_image_that_is_seen_at_all(connection, visibility):
    create(connection, "a", owner="mine")
    create(connection, "b", owner="theirs", visibility=visibility, os_hidden=True)
    lend(connection, "b", "mine", "rejected")
    assert ids(connection, marker="b") == ["a"]


SOME = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"choices": {"name": ["one"]}}, "a"),
        ({"choices": {"name": ["one", "three"]}}, "ac"),
        ({"choices": {"name": ["ONE"]}}, ""),
        ({"choices": {"name": ["%"]}}, ""),
        ({"choices": {"name": ["o_e"]}}, ""),
        ({"choices": {"name": ["x" * 255]}}, ""),
        ({"choices": {"id": ["b", "c", "z"]}}, "bc"),
        ({"choices": {"status": ["active"]}}, "a"),
        ({"choices": {"status": ["active", "queued"]}}, "abc"),
        ({"choices": {"disk_format": ["raw"], "container_format": ["bare"]}}, "b"),
        ({"choices": {"owner": ["mine"], "protected": [True]}}, "c"),
        ({"choices": {"owner": ["theirs"]}}, ""),
        ({"choices": {"checksum": ["md5"]}}, "a"),
        ({"choices": {"os_hash_value": ["sha"]}}, "b"),
        ({"at_least": {"size": 5}}, "ab"),
        ({"at_most": {"size": 5}}, "b"),
        ({"at_least": {"min_ram": 1}, "at_most": {"min_disk": 0}}, "c"),
        ({"moments": [Moment("created_at", "gt", SOME)]}, "c"),
        ({"moments": [Moment("created_at", "gte", SOME)]}, "bc"),
        ({"moments": [Moment("created_at", "lt", SOME)]}, "a"),
        ({"moments": [Moment("created_at", "lte", SOME)]}, "ab"),
        ({"moments": [Moment("created_at", "eq", SOME)]}, "b"),
        ({"moments": [Moment("created_at", "neq", SOME), Moment("updated_at", "gt", SOME)]}, "ac"),
        ({"tags": ["t"]}, "ab"),
        ({"tags": ["t", "u"]}, "b"),
        ({"tags": ["u", "t", "t"]}, "b"),
        ({"tags": ["%"]}, ""),
        ({"properties": {"k": "v"}}, "ab"),
        ({"properties": {"k": "v", "l": "_"}}, "b"),
        ({"properties": {"k": "x" * 300}}, ""),
        ({"properties": {"k": "y" * 200 + "1"}}, "c"),
        ({"properties": {"k": "v"}, "tags": ["u"]}, "b"),
        ({"properties": {"k": "v"}, "choices": {"name": ["three"]}}, ""),
        ({"limit": 0}, ""),
    ],
    ids=str,
)
def test_a_filter_finds(connection, query, found):
    facts = {"owner": "mine"}
    create(connection, "a", **facts, name="one", status="active", size=7, checksum="md5", tags=("t",), properties={"k": "v"})
    create(
        connection,
        "b",
        **facts,
        name="two",
        size=5,
        disk_format="raw",
        container_format="bare",
        os_hash_value="sha",
        tags=("t", "u"),
        properties={"k": "v", "l": "_"},
    )
    create(connection, "c", **facts, name="three", protected=True, min_ram=1, properties={"k": "y" * 200 + "1"})
    assert ids(connection, sort=[("id", False)], **query) == list(found)


@pytest.mark.parametrize(
    "query",
    [
        {"choices": {"version": [1]}},
        {"at_least": {"version": 1}},
        {"at_most": {"name": 1}},
        {"moments": [Moment("created_at", "like", SOME)]},
        {"sort": [("reason", True)]},
        {"limit": -1},
    ],
    ids=str,
)
def test_what_can_not_be_asked_for_is_refused(connection, query):
    with pytest.raises(InvalidRequest):
        ids(connection, **query)


def test_a_page_holds_a_thousand_images_at_most(connection):
    for number in range(1003):
        create_image(connection, Image(id=f"{number}", owner="mine"))
    assert len(ids(connection, limit=5000)) == 1000


@pytest.mark.parametrize("query", [{"tags": ["t"]}, {"properties": {"k": "v"}}, {"choices": {"status": ["queued"]}}], ids=str)
def test_a_fact_that_is_common_is_found_among_the_few_images_that_a_viewer_sees(connection, query):
    facts = {"visibility": "private", "tags": ("t",), "properties": {"k": "v"}}
    for number in range(1001):
        create_image(connection, Image(id=f"{number}", owner="theirs", **facts))
    for image_id in "ab":
        create_image(connection, Image(id=image_id, owner="mine", created_at=FIRST, **facts))
    create_image(connection, Image(id="c", owner="mine", status="active", created_at=FIRST))
    assert ids(connection, **query) == ["b", "a"]
    assert ids(connection, **query, marker="b") == ["a"]
    assert len(ids(connection, THEIRS, **query, limit=1000)) == 1000
