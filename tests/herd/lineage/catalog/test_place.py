from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.herd.lineage.catalog import place
from cowherd.herd.lineage.catalog.place import catalog_path, times_are_reliable

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /proc rw - proc proc rw
30 22 0:40 / /srv/far\\040away rw,relatime - nfs4 server:/export rw
31 22 0:41 / /srv rw - xfs /dev/vdb rw
32 31 0:42 / /srv/far\\040away/near rw - tmpfs tmpfs rw
33 22 0:43 / /mnt rw master:2 - fuse.sshfs host:/ rw
34 22 0:44 / /over rw - nfs server:/ rw
35 34 0:45 / /over rw - btrfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("directory", "reliable"),
    [
        ("/", True),
        ("/home", True),
        ("/srv", True),
        ("/srv/far away", False),
        ("/srv/far away/images", False),
        ("/srv/far away/near/images", True),
        ("/srv/far awayness", True),
        ("/mnt/images", False),
        ("/over/images", True),
    ],
)
def test_only_file_systems_of_this_machine_have_reliable_times(tmp_path, directory, reliable):
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    assert times_are_reliable(directory, table) is reliable


def test_without_a_table_of_mounts_nothing_is_reliable(tmp_path):
    assert not times_are_reliable("/", tmp_path / "none")


@pytest.fixture
def person(monkeypatch):
    monkeypatch.delenv("COWHERD_CATALOG", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_it_lies_in_the_users_cache(person, monkeypatch):
    assert catalog_path() == Path("/home/ada/.cache/cowherd/catalog-3.sqlite")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast/cache")
    assert catalog_path() == Path("/fast/cache/cowherd/catalog-3.sqlite")


def test_a_relative_cache_directory_is_ignored(person, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert catalog_path() == Path("/home/ada/.cache/cowherd/catalog-3.sqlite")


def test_roots_lies_in_the_systems_cache_even_with_somebodys_home(person, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/ada/.cache")
    assert catalog_path() == Path("/var/cache/cowherd/catalog-3.sqlite")


def test_it_can_be_named_or_switched_off(person, monkeypatch):
    monkeypatch.setenv(place.VARIABLE, "/tmp/mine")
    assert catalog_path() == Path("/tmp/mine")
    monkeypatch.setenv(place.VARIABLE, "off")
    assert catalog_path() is None
