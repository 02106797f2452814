"""Images: made, read, changed, and deleted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from cowherd.service.records import states
from cowherd.service.records.faults import ImageChanged, ImageExists, ImageNotFound, StatusConflict, Unstorable
from cowherd.service.records.image import Image, Location
from cowherd.service.records.images import change_status, create_image, delete_image, read_image, status_of, update_image

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FULL = Image(
    id="i1",
    name="a\nname with 'quotes' and %_ \u2603",
    visibility="public",
    protected=True,
    os_hidden=True,
    owner="p1",
    checksum="c",
    os_hash_algo="sha512",
    os_hash_value="h",
    size=1 << 60,
    virtual_size=1 << 61,
    container_format="bare",
    disk_format="qcow2",
    min_ram=512,
    min_disk=20,
    created_at=WHEN,
    updated_at=WHEN,
    reason="it was refused",
    properties={"b": "2", "a": "", "long": "x" * 10_000},
    tags=("one", "two"),
    locations=(Location("http://x/y", {"store": "web"}), Location("http://x/z")),
)


def test_an_image_is_read_as_it_was_recorded(connection):
    create_image(connection, FULL)
    assert read_image(connection, "i1") == FULL


def test_an_image_with_nothing_is_read_as_it_was_recorded(connection):
    bare = Image(id="i1")
    create_image(connection, bare)
    assert read_image(connection, "i1") == bare


def test_an_id_is_given_once(connection):
    create_image(connection, Image(id="i1"))
    with pytest.raises(ImageExists):
        create_image(connection, FULL)
    assert read_image(connection, "i1").name is None


def test_an_image_that_is_not_there_is_not_found(connection):
    for ask in (read_image, status_of, delete_image):
        with pytest.raises(ImageNotFound):
            ask(connection, "none")
    with pytest.raises(ImageNotFound):
        update_image(connection, FULL)
    with pytest.raises(ImageNotFound):
        change_status(connection, "none", ["queued"], "saving")


def test_all_that_an_image_has_can_change(connection):
    create_image(connection, FULL)
    changed = replace(
        FULL,
        name=None,
        visibility="private",
        protected=False,
        os_hidden=False,
        owner="p2",
        min_ram=0,
        min_disk=0,
        disk_format="raw",
        container_format=None,
        reason=None,
        properties={"a": "3", "c": "4"},
        tags=("two", "three"),
        locations=(Location("http://x/z"),),
    )
    after = update_image(connection, changed)
    assert after == read_image(connection, "i1")
    assert after.updated_at > WHEN
    assert after == replace(changed, version=2, updated_at=after.updated_at, tags=("three", "two"))


def test_a_change_to_what_another_changed_meanwhile_is_refused(connection):
    create_image(connection, FULL)
    update_image(connection, replace(FULL, name="first"))
    with pytest.raises(ImageChanged):
        update_image(connection, replace(FULL, name="second", tags=()))
    assert (read_image(connection, "i1").name, read_image(connection, "i1").tags) == ("first", FULL.tags)


def test_a_change_leaves_the_state_alone(connection):
    create_image(connection, Image(id="i1"))
    assert update_image(connection, Image(id="i1", status="active")).status == "queued"


def test_a_state_changes_once(connection):
    create_image(connection, Image(id="i1"))
    change_status(connection, "i1", ["queued"], "saving", reason="an upload began")
    image = read_image(connection, "i1")
    assert (image.status, image.reason, image.version) == ("saving", "an upload began", 2)
    with pytest.raises(StatusConflict) as refusal:
        change_status(connection, "i1", ["queued"], "saving")
    assert (refusal.value.status, refusal.value.target) == ("saving", "saving")


@pytest.mark.parametrize("status", states.TARGETS)
@pytest.mark.parametrize("target", states.TARGETS)
def test_a_state_is_followed_only_by_those_that_may(connection, status, target):
    create_image(connection, Image(id="i1", status=status))
    if target in states.TARGETS[status]:
        change_status(connection, "i1", states.TARGETS, target)
        assert status_of(connection, "i1") == target
    else:
        with pytest.raises(StatusConflict):
            change_status(connection, "i1", states.TARGETS, target)
        assert status_of(connection, "i1") == status


def test_a_deleted_image_leaves_nothing(connection):
    create_image(connection, FULL)
    delete_image(connection, "i1")
    for table in ("images", "properties", "tags"):
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", {"name": "a\0b"}),
        ("name", {"name": "\ud800"}),
        ("name", {"name": "x" * 256}),
        ("name", {"properties": {"k" * 1000: "v"}}),
        ("value", {"properties": {"k": "\0"}}),
        ("tag", {"tags": ("t" * 256,)}),
        ("owner", {"owner": "\0"}),
        ("reason", {"reason": "\udfff"}),
    ],
)
def test_a_text_that_not_every_database_holds_is_refused(connection, field, values):
    with pytest.raises(Unstorable) as refusal:
        create_image(connection, Image(id="i1", **values))
    assert refusal.value.field == field


def test_a_text_of_255_wide_characters_is_held(connection):
    wide = "\U0001f404" * 255
    image = Image(id="i1", name=wide, properties={wide: wide * 100}, tags=(wide,))
    create_image(connection, image)
    assert read_image(connection, "i1") == image
