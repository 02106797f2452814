"""What fanotify and inotify tell of files: the same notices, with and without the process."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd.live.fanotify import Fanotify
from cowherd.live.inotify import Inotify
from cowherd.live.notices import Notice, What
from tests.storage.hosts import reflink_file_system


@pytest.fixture(params=[Fanotify, Inotify])
def source(request):
    try:
        made = request.param()
    except OSError as error:
        pytest.skip(f"{request.param.__name__} is not permitted: {error}")
    yield made
    made.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4096)
    return path


def heard(source) -> set[tuple[What, Path | None, bool]]:
    """What the source tells within a moment, without the processes."""
    return {(notice.what, notice.path, notice.is_directory) for notice in told(source)}


def told(source) -> list[Notice]:
    notices = []
    while select.select([source], [], [], 0.05)[0]:
        notices += source.read()
    return notices


def test_a_write_and_the_close_after_it_are_told(source, file):
    source.add_file(file)
    with file.open("r+b") as stream:
        stream.write(b"y")
    assert heard(source) >= {(What.WRITTEN, file, False), (What.CLOSED, file, False)}


def test_reading_is_no_write(source, file):
    source.add_file(file)
    file.read_bytes()
    assert heard(source) <= {(What.OPENED, file, False)}


def test_truncating_counts_as_a_write(source, file):
    source.add_file(file)
    os.truncate(file, 100)
    assert (What.WRITTEN, file, False) in heard(source)


def test_a_new_mode_is_told(source, file):
    source.add_file(file)
    file.chmod(0o600)
    assert heard(source) == {(What.ATTRIBUTES, file, False)}


def test_a_write_under_another_name_of_the_file_is_told_by_the_watched_one(source, file):
    other = file.with_name("other")
    os.link(file, other)
    source.add_file(file)
    other.write_bytes(b"z")
    assert (What.WRITTEN, file, False) in heard(source)


def test_names_that_appear_and_vanish_in_a_directory_are_told(source, file):
    source.add_directory(file.parent)
    new = file.with_name("new \n name")
    os.rename(file, new)
    new.unlink()
    new.mkdir()
    assert heard(source) == {
        (What.VANISHED, file, False),
        (What.APPEARED, new, False),
        (What.VANISHED, new, False),
        (What.APPEARED, new, True),
    }


def test_a_file_that_takes_a_watched_one_s_name_is_told_by_the_directory(source, file):
    source.add_directory(file.parent)
    source.add_file(file)
    other = file.with_name("other")
    other.write_bytes(b"other")
    told(source)
    os.replace(other, file)
    assert {(What.VANISHED, other, False), (What.APPEARED, file, False)} <= heard(source)


def test_what_is_not_watched_is_not_told(source, file):
    source.add_file(file)
    file.with_name("neighbour").write_bytes(b"x")
    assert heard(source) == set()


def test_what_is_not_there_can_t_be_watched(source, tmp_path):
    with pytest.raises(FileNotFoundError):
        source.add_file(tmp_path / "nothing")


def test_a_file_is_no_directory(source, file):
    with pytest.raises(NotADirectoryError):
        source.add_directory(file)


@pytest.mark.parametrize("source", [Fanotify], indirect=True)
def test_fanotify_names_the_process_of_a_write_and_of_a_rename(source, file):
    source.add_file(file)
    source.add_directory(file.parent)
    script = "import os, sys; open(sys.argv[1], 'r+b').write(b'y'); os.rename(sys.argv[1], sys.argv[1] + '.moved')"
    process = subprocess.Popen([sys.executable, "-c", script, file])
    process.wait()
    seen = {(notice.what, notice.pid) for notice in told(source)}
    assert seen == {(what, process.pid) for what in (What.OPENED, What.WRITTEN, What.CLOSED, What.VANISHED, What.APPEARED)}


@pytest.mark.parametrize("source", [Fanotify], indirect=True)
def test_fanotify_tells_of_files_on_a_file_system_with_reflinks(source, tmp_path):
    with reflink_file_system(tmp_path) as directory:
        file = directory / "file"
        file.write_bytes(b"x")
        source.add_file(file)
        source.add_directory(directory)
        file.write_bytes(b"y")
        file.unlink()
        assert {(What.WRITTEN, file, False), (What.VANISHED, file, False)} <= heard(source)


@pytest.mark.parametrize("source", [Inotify], indirect=True)
def test_inotify_names_nobody(source, file):
    source.add_file(file)
    file.write_bytes(b"y")
    assert {notice.pid for notice in told(source)} == {None}


@pytest.mark.parametrize("source", [Inotify], indirect=True)
def test_more_than_the_kernel_keeps_is_told_as_an_overflow(source, tmp_path):
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.touch()
        source.add_file(file)
    descriptors = [os.open(file, os.O_WRONLY) for file in files]
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for _ in range(most // 2 + 10):
        for descriptor in descriptors:
            os.pwrite(descriptor, b"x", 0)
    for descriptor in descriptors:
        os.close(descriptor)
    assert Notice(What.OVERFLOW, None) in told(source)
