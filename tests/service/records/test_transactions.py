"""Transactions: whole or not at all, and one after another, whatever the database."""

from __future__ import annotations

import threading

import pytest

from cowherd.service.records.faults import ImageExists, ImageNotFound, StatusConflict, Unstorable
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status, create_image, delete_image, read_image
from cowherd.service.records.pages import Query, Viewer, page
from cowherd.service.records.tasks import Task, create_task

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


def test_threads_that_write_at_once_all_succeed(database):
    def create(thread: int) -> None:
        for place in range(10):
            with database.write() as connection:
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


def test_of_threads_that_take_an_id_at_once_one_gets_it(database):
    refused = []

    def create(place: int) -> None:
        try:
            with database.write() as connection:
                create_image(connection, Image(id="a", name=f"{place}", tags=("t",)))
        except ImageExists:
            refused.append(place)

    at_once(8, create)
    assert len(refused) == 7
    assert count(database) == 1
