"""Tests of files that a job holds: each is opened once, locked until the end, and lent to what reads it meanwhile."""

from __future__ import annotations

import os
import resource

import pytest

from cowherd.errors import HostFileError, ImageInUse
from cowherd.storage.holding import Holding
from cowherd.storage.hostfile import HostFile
from cowherd.storage.leases import openings_beside
from cowherd.storage.locks import INSPECT, READ, READ_RAW, WRITE
from cowherd.storage.mappedlocks import outlive_descriptors


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"content")
    return path


def is_free(path, mode) -> bool:
    try:
        HostFile.open(path, lock=mode).close()
    except ImageInUse:
        return False
    return True


def key_of(path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


def test_a_lock_is_held_until_the_block_ends(image):
    with Holding() as held:
        held.lock(image, WRITE)
        assert not is_free(image, READ)
    assert is_free(image, READ)


def test_what_holds_a_lock_may_take_a_greater_one_and_keeps_it_when_it_asks_for_a_lesser_one(image):
    with Holding() as held:
        held.lock(image, READ)
        assert is_free(image, READ)
        held.lock(image, WRITE)
        held.lock(image, READ)
        assert not is_free(image, READ)


def test_a_lock_that_another_excludes_is_refused_and_the_file_is_not_held(image):
    with HostFile.open(image, lock=WRITE), Holding() as held:
        with pytest.raises(ImageInUse):
            held.lock(image, READ)
        assert held.reader(key_of(image)) is None


def test_a_held_file_is_lent_and_stays_open_when_its_borrower_closes_it(image):
    with Holding() as held:
        held.lock(image, WRITE)
        lent = held.open(image)
        lent.lock(READ)  # a descriptor of its own would be refused
        assert lent.pread(0, 7) == b"content"
        lent.close()
        assert lent.closed
        assert os.pread(held.reader(key_of(image)), 7, 0) == b"content"
        assert not is_free(image, INSPECT)


def test_a_borrower_that_needs_a_greater_lock_has_its_holder_take_it(image):
    with Holding() as held:
        held.lock(image, READ_RAW)
        held.open(image).lock(READ)
        with pytest.raises(ImageInUse):
            HostFile.open(image, lock=WRITE)


def test_a_file_is_lent_under_the_name_that_it_was_asked_for_by(image, tmp_path):
    other = tmp_path / "other"
    os.link(image, other)
    with Holding() as held:
        held.lock(image, READ)
        lent = held.open(other)
        assert lent.path == other
        assert lent.fd == held.reader(key_of(image))


def test_a_file_that_took_the_name_of_a_held_one_is_opened(image, tmp_path):
    with Holding() as held:
        held.lock(image, READ)
        (tmp_path / "new").write_bytes(b"another")
        os.rename(tmp_path / "new", image)
        with held.open(image) as file:
            assert file.pread(0, 7) == b"another"


def test_a_file_that_is_not_held_belongs_to_who_opened_it(image):
    with Holding() as held:
        file = held.open(image)
        file.lock(WRITE)
        assert held.reader(file.key) is None
        file.close()
        assert is_free(image, WRITE)


def test_a_name_that_leads_nowhere_is_an_error_that_names_it(tmp_path):
    with Holding() as held, pytest.raises(HostFileError, match="nothing"):
        held.open(tmp_path / "nothing")


def test_a_held_file_is_opened_once_for_all_that_write_to_it_and_keeps_its_locks(image):
    with Holding() as held:
        held.lock(image, WRITE)
        first = held.open(image, writable=True)
        first.pwrite(0, b"CON")
        first.close()
        second = held.open(image, writable=True)
        assert held.reader(key_of(image)) is None
        assert held.descriptors() == set()
        second.pwrite(3, b"TENT")
        held.end_writing()
        assert not is_free(image, READ)
        assert held.descriptors() == {held.reader(key_of(image))}
    assert image.read_bytes() == b"CONTENT"


def test_the_kernel_tells_whether_anybody_else_has_a_held_file_open(image):
    with Holding() as held:
        held.lock(image, WRITE)
        (fd,) = held.descriptors()
        assert openings_beside(fd) == (False, False)
        with open(image, "rb"):
            assert openings_beside(fd) == (True, False)
        with open(image, "r+b"):
            assert openings_beside(fd) == (True, True)


def test_of_too_many_files_the_rest_is_only_tried(image, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"")
    with Holding(most=1) as held:
        held.lock(image, WRITE)
        held.lock(other, WRITE)
        assert is_free(other, WRITE)
        assert not is_free(image, WRITE)
        with HostFile.open(other, lock=WRITE), pytest.raises(ImageInUse):
            held.lock(other, WRITE)


@pytest.fixture
def images(tmp_path):
    """More images than a job keeps open."""
    found = [tmp_path / str(number) for number in range(100)]
    for path in found:
        path.write_bytes(b"content")
    return found


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_of_very_many_files_all_stay_locked_and_few_are_open(images):
    before = open_files()
    with Holding() as held:
        for image in images:
            held.lock(image, WRITE)
        if all(outlive_descriptors(held.reader(key_of(image)), str(image)) for image in images):
            assert open_files() - before <= 30
        assert not any(is_free(image, INSPECT) for image in images)
    assert open_files() == before
    assert all(is_free(image, WRITE) for image in images)


def test_a_parked_file_is_read_written_to_and_asked_about_as_any_other(images):
    with Holding() as held:
        for image in images:
            held.lock(image, WRITE)
        for image in images:
            key = key_of(image)
            assert openings_beside(held.reader(key)) == (False, False)
            with open(image, "rb"):
                assert openings_beside(held.reader(key)) == (True, False)
            with held.open(image, writable=True) as file:
                file.pwrite(0, b"CONTENT")
            with held.open(image) as file:
                assert file.pread(0, 7) == b"CONTENT"
            assert not is_free(image, INSPECT)


def test_a_parked_file_takes_a_greater_lock_unless_another_excludes_it(images):
    with Holding() as held:
        for image in images:
            held.lock(image, READ)
        with HostFile.open(images[0], lock=READ), pytest.raises(ImageInUse):
            held.lock(images[0], WRITE)
        for image in images:
            assert is_free(image, READ)
            held.lock(image, WRITE)
            held.lock(image, READ)
            assert not is_free(image, READ)


def test_files_that_are_lent_are_not_parked(images):
    with Holding() as held:
        lent = []
        for image in images:
            held.lock(image, READ)
            lent.append(held.open(image))
        assert all(file.pread(0, 7) == b"content" for file in lent)


def test_another_file_under_the_name_of_a_parked_one_is_not_taken_for_it(images):
    with Holding() as held:
        for image in images:
            held.lock(image, WRITE)
        key, kept = key_of(images[0]), images[0].with_name("kept")
        os.link(images[0], kept)
        images[1].replace(images[0])
        with pytest.raises(HostFileError, match="another file has taken its name"):
            held.reader(key)
        assert not is_free(kept, INSPECT)


def test_where_locks_do_not_outlive_descriptors_as_many_files_are_open_as_the_host_allows(images, monkeypatch):
    monkeypatch.setattr("cowherd.storage.holding.outlive_descriptors", lambda fd, name: False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 50, hard))
    try:
        with Holding() as held:
            for image in images:
                held.lock(image, WRITE)
            assert open_files() >= len(images)
            assert not any(is_free(image, INSPECT) for image in images)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
