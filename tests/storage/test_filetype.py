"""Files that can't be images are refused before anything is done to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.errors import HostFileError
from cowherd.storage.hostfile import HostFile
from cowherd.storage.mounts import mounts


@pytest.mark.parametrize("name", ["/proc/self/mem", "/proc/version", "/proc/self/attr/current"])
@pytest.mark.parametrize("writable", [False, True])
def test_files_of_the_kernel_are_refused(name, writable):
    with pytest.raises(HostFileError, match="file of the kernel's"):
        HostFile.open(name, writable=writable, lock=None)


def test_no_image_is_created_over_a_file_of_the_kernel(monkeypatch):
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda *arguments: opened.append(arguments))
    with pytest.raises(HostFileError, match="file of the kernel's"):
        HostFile.create("/proc/self/oom_score_adj")
    assert not opened


def test_one_that_is_put_there_between_look_and_open_is_refused_too(monkeypatch):
    monkeypatch.setattr("cowherd.storage.hostfile.refuse_other_than_images", lambda path, action: None)
    with pytest.raises(HostFileError, match="file of the kernel's"):
        HostFile.open("/proc/version", lock=None)


def test_a_file_with_nothing_in_it_yet_may_be_an_image_on_a_disk_in_memory(tmp_path):
    shared = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    path = shared / f"cowherd-test-{os.getpid()}"
    path.write_bytes(b"")
    try:
        HostFile.open(path).close()
    finally:
        path.unlink()


def test_a_file_that_a_process_has_open_may_be_reached_through_its_entry_in_proc(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"")
    with path.open() as held:
        HostFile.open(f"/proc/self/fd/{held.fileno()}", lock=None).close()


def test_where_nothing_is_known_of_mounts_files_are_opened_as_before(monkeypatch, tmp_path):
    monkeypatch.setattr("cowherd.storage.mounts.mounts", lambda: mounts(tmp_path / "absent"))
    HostFile.open("/proc/version", lock=None).close()
