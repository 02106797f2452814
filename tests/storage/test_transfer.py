from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageInUse
from cowherd.storage import transfer
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from cowherd.storage.transfer import CopyDiffers, give_name, take_name

HOLE = 1 << 20


@pytest.fixture
def source(tmp_path):
    """A file with data, a hole, and data."""
    path = tmp_path / "source"
    with open(path, "wb") as file:
        file.write(b"first" * 1000)
        file.seek(HOLE)
        file.write(b"last" * 1000)
    path.chmod(0o640)
    return path


@pytest.fixture
def elsewhere(tmp_path):
    """A directory on another file system."""
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK) or place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system to copy to")
    directory = place / f"cowherd-transfer-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def test_on_one_file_system_both_names_lead_to_the_file(source, tmp_path):
    assert give_name(source, tmp_path / "target")
    assert (tmp_path / "target").samefile(source)


def test_doing_it_again_changes_nothing(source, tmp_path):
    give_name(source, tmp_path / "target")
    assert give_name(source, tmp_path / "target")


def test_another_file_is_not_replaced_even_with_the_same_bytes(source, tmp_path):
    shutil.copyfile(source, tmp_path / "target")
    with pytest.raises(HostFileError):
        give_name(source, tmp_path / "target")


def test_a_symbolic_link_at_the_target_is_not_followed(source, tmp_path):
    (tmp_path / "target").symlink_to(source)
    with pytest.raises(HostFileError):
        give_name(source, tmp_path / "target")


def test_across_file_systems_it_is_copied_with_mode_and_holes(source, elsewhere):
    assert not give_name(source, elsewhere / "target")
    assert (elsewhere / "target").read_bytes() == source.read_bytes()
    assert (elsewhere / "target").stat().st_mode & 0o777 == 0o640
    assert (elsewhere / "target").stat().st_blocks * 512 < HOLE // 2


def test_a_finished_copy_is_recognised_and_another_file_is_not_replaced(source, elsewhere):
    give_name(source, elsewhere / "target")
    assert not give_name(source, elsewhere / "target")
    (elsewhere / "target").write_bytes(source.read_bytes()[:-1] + b"?")
    with pytest.raises(HostFileError):
        give_name(source, elsewhere / "target")


def test_a_copy_that_reads_back_differently_is_removed(source, elsewhere, monkeypatch):
    monkeypatch.setattr(transfer, "_same", lambda *_: False)
    with pytest.raises(CopyDiffers):
        give_name(source, elsewhere / "target")
    assert list(elsewhere.iterdir()) == []


def test_a_file_that_is_written_to_is_not_copied(source, elsewhere):
    with HostFile.open(source, writable=True, lock=WRITE), pytest.raises(ImageInUse):
        give_name(source, elsewhere / "target")
    assert list(elsewhere.iterdir()) == []


def test_taking_a_name_that_is_not_there_is_fine(source):
    take_name(source)
    take_name(source)
    assert not source.exists()


def test_a_copy_is_on_its_disk_before_it_is_read_back(source, elsewhere, monkeypatch):
    """The host forgets only what its disk holds: else what is read back is what was just written."""
    happened: list[str] = []

    def noting(name, word):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *words: happened.append(word) or real(*words))

    noting("pwrite", "written")
    noting("fdatasync", "flushed")
    noting("posix_fadvise", "forgotten")
    give_name(source, elsewhere / "target")
    assert happened[happened.index("forgotten") - 1] == "flushed"
