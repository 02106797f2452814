"""How SQLite finds the images of a page: through an index, in the page's order, whatever is asked for."""

from __future__ import annotations

import pytest

from cowherd.service.records import pages
from cowherd.service.records.facts import FEW
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image
from cowherd.service.records.pages import Query, Viewer, page

MEMBER, ADMIN, NOBODY = Viewer("p"), Viewer("p", everything=True), Viewer(None)
FINAL = ("SEARCH images USING INDEX sqlite_autoindex_images_1 (id=?)", "SEARCH lineage ", "SEARCH places ")


@pytest.fixture
def kind() -> str:
    """What is told here is SQLite's way."""
    return "sqlite"


def plan(connection, query: Query, viewer: Viewer) -> list[str]:
    """The steps of SQLite's plan for a page."""
    asked = pages.msgspec.msgpack.encode(query)
    statement = pages._statement(asked, viewer, pages._followed(connection, query, viewer), False)
    compiled = statement.compile(connection.engine, compile_kwargs={"literal_binds": True})
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}".replace("%", "%%")).all()
    return [row[3] for row in rows]


def searched(steps: list[str]) -> list[str]:
    """The indexes that the keys of a page are found through."""
    found = [step for step in steps if step.startswith(("SEARCH", "SCAN images", "SCAN tags", "SCAN properties"))]
    return [step.partition("INDEX ")[2] for step in found if not step.startswith(FINAL)]


PUBLIC = "images_by_visibility (visibility=? AND os_hidden=?)"
OWN = "images_by_owner (owner=? AND os_hidden=?)"
LENT = "members_by_member (member=? AND status=?)"
EVERYTHING = "images_by_age (os_hidden=?)"


@pytest.mark.parametrize(
    ("viewer", "query", "indexes"),
    [
        (MEMBER, Query(), [PUBLIC, OWN, LENT]),
        (NOBODY, Query(), [PUBLIC]),
        (ADMIN, Query(), [EVERYTHING]),
        (ADMIN, Query(visibility="private"), [PUBLIC]),
        (MEMBER, Query(visibility="all"), [PUBLIC, PUBLIC, OWN, LENT]),
        (MEMBER, Query(visibility="private", at_least={"size": 5}), [OWN]),
        (ADMIN, Query(choices={"name": ["x"]}), ["images_by_name (name=?)"]),
        (ADMIN, Query(choices={"checksum": ["x"]}), ["images_by_checksum (checksum=?)"]),
        (ADMIN, Query(choices={"os_hash_value": ["x"]}), ["images_by_hash (os_hash_value=?)"]),
        (ADMIN, Query(choices={"status": ["queued"]}), ["images_by_status (status=?)"]),
        (ADMIN, Query(tags=["x"]), ["tags_by_tag (tag=?)"]),
        (ADMIN, Query(properties={"k": "v"}), ["properties_by_value (name=? AND <expr>=?)"]),
        (ADMIN, Query(properties={"k": "v"}, choices={"owner": ["p"]}), ["properties_by_value (name=? AND <expr>=?)"]),
    ],
    ids=str,
)
def test_a_page_is_found_through(connection, viewer, query, indexes):
    found = [step for step in searched(plan(connection, query, viewer)) if "PRIMARY KEY" not in step and step]
    assert found == indexes


@pytest.mark.parametrize("viewer", [MEMBER, ADMIN, NOBODY])
@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(tags=["t"]),
        Query(properties={"k": "v"}),
        Query(choices={"name": ["n"]}),
        Query(choices={"status": ["active"]}),
    ],
    ids=str,
)
def test_what_is_common_is_followed_in_the_order_of_the_page(connection, viewer, query):
    """Only the few images of the page are sorted, not all that the index leads to."""
    for number in range(FEW):
        facts = {"tags": ("t",), "properties": {"k": "v"}, "name": "n", "status": "active"}
        create_image(connection, Image(id=f"{number}", owner="p", visibility="public", **facts))
    steps = plan(connection, query, viewer)
    assert not [step for step in steps if step.startswith("SCAN ") and not step.startswith("SCAN anon")]
    followed = steps[: next(place for place, step in enumerate(steps) if step.startswith("SCAN anon"))]
    assert "USE TEMP B-TREE FOR ORDER BY" not in followed
    assert len(page(connection, query, viewer)) == 25


def test_of_two_facts_the_rarer_one_is_followed(connection):
    for number in range(5):
        facts = {"tags": ("common", *("rare",) * (number == 3)), "properties": {"k": "v", "l": f"{number}"}}
        create_image(connection, Image(id=f"{number}", **facts))
    for query, index in (
        (Query(tags=["common", "rare"], properties={"k": "v"}), "tags_by_tag (tag=?)"),
        (Query(tags=["common"], properties={"k": "v", "l": "3"}), "properties_by_value (name=? AND <expr>=?)"),
    ):
        assert searched(plan(connection, query, ADMIN))[0] == index
        assert [image.id for image in page(connection, query, ADMIN)] == ["3"]
