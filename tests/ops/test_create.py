from __future__ import annotations

import errno

import pytest

from cowherd.errors import HostFileError
from cowherd.ops.create import create
from cowherd.storage.hostfile import HostFile


@pytest.fixture
def full_disk(monkeypatch):
    def preallocate(file, offset, length):
        raise HostFileError(file.name, "preallocate", OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(HostFile, "preallocate", preallocate)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_what_a_failed_create_made_is_removed(tmp_path, full_disk, image_format):
    with pytest.raises(HostFileError):
        create(tmp_path / "image", 1 << 20, format=image_format, options={"preallocation": "full"})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_is_left(tmp_path, full_disk):
    (tmp_path / "image").touch()
    with pytest.raises(HostFileError):
        create(tmp_path / "image", 1 << 20, format="raw", options={"preallocation": "full"})
    assert (tmp_path / "image").exists()
