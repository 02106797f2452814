"""Quotas: what a project may have."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from cowherd.service.records.faults import QuotaExceeded
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import create_image
from cowherd.service.records.quotas import Resource, Usage, check_quota, quotas_of, set_quota, usage_of
from cowherd.service.records.uploads import UploadRecord, begin_upload, list_uploads
from tests.service.databases.again import opened_again

BYTES, IMAGES, UPLOADS = Resource.BYTES, Resource.IMAGES, Resource.UPLOADS


def reserve(connection, image_id: str, size: int) -> None:
    expires_at = now() + timedelta(hours=1)
    upload = UploadRecord(
        id=f"of {image_id}",
        image_id=image_id,
        kind="put",
        project="p",
        store="s",
        temporary="t",
        expires_at=expires_at,
        reserved=size,
    )
    begin_upload(connection, upload)


@pytest.fixture
def used(connection):
    """Two images of 100 and 20 bytes of the project p, an upload of 5 to another, and an image of another project."""
    create_image(connection, Image(id="a", owner="p", size=100))
    create_image(connection, Image(id="b", owner="p", size=20))
    create_image(connection, Image(id="c", owner="p"))
    create_image(connection, Image(id="d", owner="q", size=1000))
    reserve(connection, "c", 5)
    return connection


def test_usage_is_what_images_hold_and_uploads_reserve(used):
    assert usage_of(used, "p") == Usage(bytes=120, reserved=5, images=3, uploads=1)
    assert usage_of(used, "nobody") == Usage(0, 0, 0, 0)


@pytest.mark.parametrize(("resource", "limit", "left"), [(BYTES, 130, 5), (IMAGES, 5, 2), (UPLOADS, 4, 3)])
def test_a_project_gets_what_is_left_and_no_more(used, resource, limit, left):
    set_quota(used, "p", resource, limit)
    check_quota(used, "p", {resource: left}, {})
    with pytest.raises(QuotaExceeded) as refusal:
        check_quota(used, "p", {resource: left + 1}, {})
    assert (refusal.value.resource, refusal.value.limit, refusal.value.used) == (resource, limit, limit - left)


def test_defaults_hold_where_nothing_was_set(used):
    with pytest.raises(QuotaExceeded):
        check_quota(used, "p", {BYTES: 1}, {BYTES: 0})
    set_quota(used, "p", BYTES, 1000)
    check_quota(used, "p", {BYTES: 1}, {BYTES: 0})
    assert quotas_of(used, "p") == {BYTES: 1000}
    set_quota(used, "p", BYTES, None)
    with pytest.raises(QuotaExceeded):
        check_quota(used, "p", {BYTES: 1}, {BYTES: 0})


def test_without_a_quota_there_is_no_bound(used):
    check_quota(used, "p", {BYTES: 1 << 62, IMAGES: 9}, {UPLOADS: 0})
    check_quota(used, None, {BYTES: 1 << 62}, {BYTES: 0})


def test_a_quota_of_nothing_refuses_everything_but_nothing(used):
    set_quota(used, "new", BYTES, 0)
    check_quota(used, "new", {BYTES: 0}, {})
    with pytest.raises(QuotaExceeded):
        check_quota(used, "new", {BYTES: 1}, {})


def test_uploads_that_begin_at_once_do_not_overshoot_together(database):
    count, size, room = 8, 10, 3
    with database.write() as connection:
        set_quota(connection, "p", BYTES, room * size)
        for number in range(count):
            create_image(connection, Image(id=f"{number}", owner="p"))
    start, refused = threading.Barrier(count), []

    def begin(image_id: str) -> None:
        start.wait()
        try:
            with opened_again(database) as own, own.write() as connection:
                check_quota(connection, "p", {BYTES: size}, {})
                reserve(connection, image_id, size)
        except QuotaExceeded:
            refused.append(image_id)

    threads = [threading.Thread(target=begin, args=(f"{number}",)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert len(list_uploads(connection)) == room
    assert len(refused) == count - room
