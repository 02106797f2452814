"""A Glance whose records are in PostgreSQL or in MariaDB is adopted as one with SQLite is, and nothing of it is changed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, text

from cowherd.service.glance import tables
from cowherd.service.glance.database import reading_glance
from cowherd.service.glance.faults import GlanceTablesDiffer, GlanceUnreadable
from cowherd.service.glance.images import read_images
from cowherd.service.glance.report import Result
from cowherd.service.records.database import open_database
from cowherd.service.records.image import Image, Location
from cowherd.service.records.images import read_image
from cowherd.service.records.members import list_members
from cowherd.service.records.metadefs import list_definitions
from tests.service.glance.glance import Glance, facts_of
from tests.service.glance.served import ServedGlance

_NUMBERS = itertools.count()
COW = "\U0001f42e \u00e4"


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request):
    """The server of Glance's database."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def glance(server, tmp_path: Path) -> ServedGlance:
    return ServedGlance(tmp_path / "glance", server.create(f"glance_{next(_NUMBERS)}"))


def furnish(glance: Glance) -> list[str]:
    """Makes images of all kinds, and a namespace; returns their ids."""
    ids = [f"{number}0000000-0000-4000-8000-000000000000" for number in range(5)]
    whole, queued, rotten, web, gone = ids
    glance.image(b"content", id=whole, name=COW, visibility="public", protected=1, os_hidden=1, min_disk=3, min_ram=5)
    glance.of(whole, "properties", name="hw_disk_bus", value="virtio")
    glance.of(whole, "properties", name="empty", value=None)
    glance.of(whole, "properties", name="gone", value="x", deleted=1)
    for tag in ("b", "B", COW):
        glance.of(whole, "tags", value=tag)
    glance.of(whole, "members", member="m", status="accepted", can_share=0)
    glance.image(id=queued, name=None, status="queued", owner=None)
    glance.image(b"content", id=rotten, size=1 << 40, virtual_size=(1 << 63) - 1)
    glance.image(b"content", id=web, url="https://images.example/disk", metadata='{"k": "v"}')
    glance.image(b"content", id=gone, deleted=1)
    glance.namespace("OS::\u00e4")
    return ids


def test_all_is_adopted_as_from_sqlite(glance: ServedGlance, adopt: Callable, database, tmp_path: Path):
    whole, queued, rotten, web, _ = furnish(glance)
    before = glance.rows()
    adopted = adopt(http_store="web")
    assert {one.image: one.result for one in adopted.images} == {
        whole: Result.ADOPTED,
        queued: Result.RECORDED,
        rotten: Result.WAITING,
        web: Result.ADOPTED,
    }
    created, updated = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    with database.read() as connection:
        image = read_image(connection, whole)
        assert image == Image(
            id=whole,
            name=COW,
            status="active",
            visibility="public",
            owner="demo",
            protected=True,
            os_hidden=True,
            min_disk=3,
            min_ram=5,
            disk_format="raw",
            container_format="bare",
            created_at=created,
            updated_at=updated,
            properties={"hw_disk_bus": "virtio", "empty": ""},
            tags=("B", "b", COW),
            blob=image.blob,
            stores=("default",),
            **facts_of(b"content"),
        )
        assert [(one.member, one.status, one.created_at) for one in list_members(connection, whole)] == [
            ("m", "accepted", created)
        ]
        assert (read_image(connection, queued).status, read_image(connection, queued).name) == ("queued", None)
        assert read_image(connection, web).locations == (Location("https://images.example/disk", {"k": "v"}),)
        namespace = "OS::\u00e4"
        found = [
            list_definitions(connection, kind, namespace) for kind in ("namespace", "object", "property", "tag", "association")
        ]
        assert [[one.name for one in kind] for kind in found] == [[namespace], ["o"], ["p"], ["t"], [f"OS::{namespace}"]]
        assert found[0][0].body["protected"] is True
    assert glance.rows() == before
    again = adopt(http_store="web")
    assert {one.result for one in again.images} == {Result.KNOWN, Result.WAITING}


def test_nothing_can_be_written(glance: ServedGlance):
    glance.image(id="a")
    with pytest.raises(GlanceUnreadable, match=r"(?i)read.only"), reading_glance(glance.address) as connection:
        connection.execute(delete(tables.images))
    assert len(glance.rows()["images"]) == 1


def test_one_state_is_read_while_glance_goes_on(glance: ServedGlance):
    glance.image(id="early")
    with reading_glance(glance.address) as reading:
        assert len(read_images(reading).images) == 1
        glance.image(id="late")
        assert len(read_images(reading).images) == 1


def test_a_driver_that_glance_has_and_cowherd_need_not_have_is_no_matter(glance: ServedGlance):
    glance.image(id="a", name="a")
    scheme, rest = glance.address.split("://")
    other = {"postgresql": "postgresql+psycopg2", "mysql+pymysql": "mysql+mysqldb"}[scheme]
    with reading_glance(f"{other}://{rest}&plugin=dbcounter") as connection:
        assert [one.record.name for one in read_images(connection).images] == ["a"]


def test_other_tables_are_told(server):
    address = server.create(f"other_{next(_NUMBERS)}")
    with pytest.raises(GlanceTablesDiffer, match="Rocky"), reading_glance(address) as connection:
        read_images(connection)


def test_a_database_that_does_not_let_in_is_told_without_its_password(server):
    address = server.url("none").replace("@", ":secret@", 1)
    with pytest.raises(GlanceUnreadable) as refusal, reading_glance(address) as connection:
        connection.execute(text("SELECT 1"))
    assert "none" in str(refusal.value) or "denied" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_glance_is_adopted_into_postgresql(glance: ServedGlance, adopt: Callable, postgresql):
    whole, *_ = furnish(glance)
    name = f"adopting_{next(_NUMBERS)}"
    address = postgresql.create(name)
    told = adopt(database=address, dry_run=True)
    assert postgresql.ask(name, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
    done = adopt(database=address)
    assert [(one.image, one.result) for one in done.images] == [(one.image, one.result) for one in told.images]
    with contextlib.closing(open_database(address)) as database, database.read() as connection:
        assert read_image(connection, whole).name == COW
    assert {one.result for one in adopt(database=address, dry_run=True).images} == {Result.KNOWN, Result.WAITING}
