"""Tests of locks that outlive their descriptors, because the file is mapped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.storage import mappedlocks
from cowherd.storage.locks import WRITE, acquire, is_locked_by_others
from cowherd.storage.mappedlocks import MappedLocks, outlive_descriptors


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"")
    return path


@pytest.fixture
def other(image):
    """A second descriptor of the image."""
    fd = os.open(image, os.O_RDONLY)
    yield fd
    os.close(fd)


def lock_and_map(image) -> MappedLocks:
    fd = os.open(image, os.O_RDONLY)
    acquire(fd, WRITE, image)
    locks = MappedLocks(fd)
    os.close(fd)
    return locks


@pytest.fixture
def mappable(image, other):
    """Skips the test where the directory of tests lies on such a file system."""
    if not outlive_descriptors(other, str(image)):
        pytest.skip("this file system maps another file than the one that was opened")


@pytest.mark.usefixtures("mappable")
def test_locks_last_as_long_as_the_file_is_mapped(image, other):
    locks = lock_and_map(image)
    assert is_locked_by_others(other, 201, image)
    locks.close()
    assert not is_locked_by_others(other, 201, image)
    locks.close()  # again is fine


@pytest.mark.usefixtures("mappable")
def test_a_child_neither_inherits_them_nor_ends_them(image, other):
    locks = lock_and_map(image)
    pid = os.fork()
    if not pid:
        locks.close()
        os._exit(not is_locked_by_others(other, 201, image))
    assert os.waitpid(pid, 0)[1] == 0
    assert is_locked_by_others(other, 201, image)
    locks.close()


def test_trying_it_leaves_no_lock_and_no_descriptor(image, other):
    before = os.listdir("/proc/self/fd")
    outlive_descriptors(other, str(image))
    assert os.listdir("/proc/self/fd") == before
    assert f":{os.stat(image).st_ino} " not in Path("/proc/locks").read_text()


def test_a_file_system_that_maps_another_file_is_noticed(image, other, tmp_path, monkeypatch):
    another = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    mapped = mappedlocks._map
    monkeypatch.setattr(mappedlocks, "_map", lambda fd: mapped(another))
    assert not outlive_descriptors(other, str(image))
    os.close(another)


def test_a_file_that_can_not_be_mapped_keeps_its_descriptor(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    assert not outlive_descriptors(fd, str(tmp_path))
    os.close(fd)


def test_another_file_of_the_same_name_says_nothing(image, other, tmp_path):
    (tmp_path / "new").write_bytes(b"")
    os.rename(tmp_path / "new", image)
    assert not outlive_descriptors(other, str(image))
