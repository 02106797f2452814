"""The kernel's table of mounts, read."""

from __future__ import annotations

import os

import pytest

from cowherd.storage.mounts import Mount, mounts


def test_a_line_is_read_with_its_escapes_and_optional_fields(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_bytes(b"36 35 98:3 /mnt1 /a\\040b rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n")
    assert list(mounts(table)) == [Mount(os.makedev(98, 3), b"/a b", "ext3", b"/mnt1")]


def test_what_is_mounted_here_is_in_the_table():
    device = os.stat("/proc").st_dev
    assert ("proc", b"/proc") in [(mount.type, mount.point) for mount in mounts() if mount.device == device]


def test_a_table_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(mounts(tmp_path / "none"))
