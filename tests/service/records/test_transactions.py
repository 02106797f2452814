"""Transactions: whole or not at all, and one after another, whatever the database."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace

from cowherd.service.records.blobs import Blob, forget_blob, read_blob, record_blob, unused_blobs
from cowherd.service.records.faults import ImageChanged, ImageExists, ImageNotFound, StatusConflict, Unstorable
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import change_status, create_image, delete_image, read_image, update_image
from cowherd.service.records.pages import Query, Viewer, page
from cowherd.service.records.tasks import Task, create_task
from tests.service.databases.again import opened_again

ADMIN = Viewer(None, everything=True)


def count(database) -> int:
    with database.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM images").scalar()


def at_once(number: int, work) -> None:
    """Calls `work` with 0, 1, ... in threads that begin together."""
    start = threading.Barrier(number)

    def run(place: int) -> None:
        start.wait()
        work(place)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def create_all(connection, ids: str) -> None:
    for image_id in ids:
        create_image(connection, Image(id=image_id))


def test_a_transaction_that_fails_wrote_nothing(database):
    with pytest.raises(ImageExists), database.write() as connection:
        create_all(connection, "aba")
    assert count(database) == 0
    with database.write() as connection:
        create_image(connection, Image(id="b"))
    assert count(database) == 1


def test_a_reader_sees_one_state_while_others_write(database):
    with database.write() as connection:
        create_image(connection, Image(id="a"))
    with database.read() as reading:
        assert read_image(reading, "a").id == "a"
        with database.write() as connection:
            delete_image(connection, "a")
        assert read_image(reading, "a").id == "a"
        assert len(page(reading, Query(), ADMIN)) == 1
    with database.read() as reading, pytest.raises(ImageNotFound):
        read_image(reading, "a")


@pytest.mark.parametrize("apart", [False, True], ids=["threads", "processes"])
def test_those_who_write_at_once_all_succeed(database, apart):
    def create(thread: int) -> None:
        with opened_again(database) if apart else contextlib.nullcontext(database) as own:
            for place in range(10):
                with own.write() as connection:
                    create_image(connection, Image(id=f"{thread}-{place}", tags=("t",)))

    at_once(8, create)
    assert count(database) == 80


def test_a_document_that_is_no_text_is_refused(connection):
    with pytest.raises(Unstorable):
        create_task(connection, Task(id="t", type="x", input={"uri": "\ud800"}))


def test_of_threads_that_change_a_state_at_once_one_does(database):
    with database.write() as connection:
        create_image(connection, Image(id="a"))
    refused = []

    def begin(place: int) -> None:
        try:
            with database.write() as connection:
                change_status(connection, "a", ["queued"], "saving")
        except StatusConflict:
            refused.append(place)

    at_once(8, begin)
    assert len(refused) == 7
    with database.read() as connection:
        assert (read_image(connection, "a").status, read_image(connection, "a").version) == ("saving", 2)


def in_turn(database, first, second) -> None:
    """Has a transaction do `first`, and one of another process that begins before that ends do `second`."""

    def write() -> None:
        with opened_again(database) as other, other.write() as connection:
            second(connection)

    with database.write() as connection:
        first(connection)
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.2)  # if it does not wait it is done by then
    thread.join()


def test_a_blob_is_unused_when_its_last_images_are_deleted_at_once(database):
    with database.write() as connection:
        record_blob(connection, Blob(digest="d", size=1))
        for image_id in "ab":
            create_image(connection, Image(id=image_id, blob="d", status="active"))
    in_turn(database, lambda connection: delete_image(connection, "a"), lambda connection: delete_image(connection, "b"))
    with database.read() as connection:
        assert unused_blobs(connection, now() + timedelta(minutes=1), 9) == ["d"]


def test_a_blob_that_two_record_at_once_is_known_to_both(database):
    def record(connection) -> None:
        record_blob(connection, Blob(digest="d", size=1))

    in_turn(database, record, record)
    with database.read() as connection:
        assert read_blob(connection, "d").size == 1


def test_a_blob_is_not_forgotten_under_an_image_that_gets_it_meanwhile(database):
    with database.write() as connection:
        record_blob(connection, Blob(digest="d", size=1))
        create_image(connection, Image(id="a", status="saving"))
    forgotten = []
    in_turn(
        database,
        lambda connection: change_status(connection, "a", ["saving"], "active", blob="d"),
        lambda connection: forgotten.append(forget_blob(connection, "d")),
    )
    assert forgotten == [False]
    with database.read() as connection:
        assert read_image(connection, "a").blob == "d"


def test_transactions_that_change_the_same_in_another_order_do_not_stop_each_other(database):
    with database.write() as connection:
        create_all(connection, "ab")

    def change(place: int) -> None:
        with opened_again(database) as own:
            for _ in range(10):
                with own.write() as connection:
                    for image_id in ("ab", "ba")[place]:
                        update_image(connection, replace(read_image(connection, image_id), name=f"{place}"))

    at_once(2, change)
    with database.read() as connection:
        assert [read_image(connection, image_id).version for image_id in "ab"] == [21, 21]


def test_of_those_who_change_what_they_have_read_at_once_one_does(database):
    with database.write() as connection:
        create_image(connection, Image(id="a"))
        before = read_image(connection, "a")
    refused = []

    def change(place: int) -> None:
        try:
            with opened_again(database) as own, own.write() as connection:
                update_image(connection, replace(before, name=f"{place}", properties={"k": f"{place}"}))
        except ImageChanged:
            refused.append(place)

    at_once(8, change)
    with database.read() as connection:
        image = read_image(connection, "a")
    assert len(refused) == 7
    assert image.properties == {"k": image.name}


def test_of_threads_that_take_an_id_at_once_one_gets_it(database):
    refused = []

    def create(place: int) -> None:
        try:
            with opened_again(database) as own, own.write() as connection:
                create_image(connection, Image(id="a", name=f"{place}", tags=("t",)))
        except ImageExists:
            refused.append(place)

    at_once(8, create)
    assert len(refused) == 7
    assert count(database) == 1
