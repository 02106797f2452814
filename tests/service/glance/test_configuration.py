"""Glance's configuration is read as oslo.config reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.service.glance.configuration import Backend, read_configuration

DATABASE = "[database]\nconnection = sqlite:////g.db\n"


def read(tmp_path: Path, text: str):
    path = tmp_path / "glance-api.conf"
    path.write_text(text)
    return read_configuration(path)


@pytest.mark.parametrize(
    ("text", "backends"),
    [
        ("", [Backend("file", (Path("/var/lib/glance/images"),))]),
        ("[glance_store]\nfilesystem_store_datadir=/a\n", [Backend("file", (Path("/a"),))]),
        (
            "[glance_store]\n"
            "filesystem_store_datadirs = /a:5\nfilesystem_store_datadirs = /b:200\nfilesystem_store_datadirs=/c\n",
            [Backend("file", (Path("/b"), Path("/a"), Path("/c")))],
        ),
        (
            "[DEFAULT]\nenabled_backends = fast:file, ceph:rbd,slow:file\n[fast]\nfilesystem_store_datadir=/f\n[slow]\n"
            "filesystem_store_datadirs: /s1:1\nfilesystem_store_datadirs: /s2:2\n",
            [Backend("fast", (Path("/f"),)), Backend("slow", (Path("/s2"), Path("/s1")))],
        ),
        (
            "[DEFAULT]\nstate = /srv # kept\nroot=$state\n[glance_store]\nfilesystem_store_datadir = '${root}/x'\n",
            [Backend("file", (Path("/srv # kept/x"),))],
        ),
        (
            "[other]\nroot = /o\n[glance_store]\n# filesystem_store_datadir = /commented\nfilesystem_store_datadir = /old\n"
            "filesystem_store_datadir = $other.root/$$/new\n",
            [Backend("file", (Path("/o/$/new"),))],
        ),
    ],
)
def test_file_stores_are_found_the_first_filled_first(tmp_path, text, backends):
    assert list(read(tmp_path, DATABASE + text).backends) == backends


def test_a_value_goes_on_in_lines_that_begin_with_space(tmp_path):
    text = (
        "[DEFAULT]\nenabled_backends = a:file,\n    b:file\n[a]\nfilesystem_store_datadir=/a\n[b]\nfilesystem_store_datadir=/b\n"
    )
    assert [one.name for one in read(tmp_path, DATABASE + text).backends] == ["a", "b"]


def test_files_in_the_directory_beside_it_win(tmp_path):
    (tmp_path / "glance-api.conf.d").mkdir()
    (tmp_path / "glance-api.conf.d/10.conf").write_text("[database]\nconnection = sqlite:////ten.db\n")
    (tmp_path / "glance-api.conf.d/20.conf").write_text("[database]\nconnection = sqlite:////twenty.db\n")
    assert read(tmp_path, DATABASE).database == "sqlite:////twenty.db"


def test_it_is_known_whether_locations_are_encrypted(tmp_path):
    assert read(tmp_path, DATABASE + "[DEFAULT]\nmetadata_encryption_key = k\n").encrypts
    assert not read(tmp_path, DATABASE).encrypts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[DEFAULT]\n", "names no database"),
        ("[database]\nwhat is this\n", "line 2"),
        ("[database]\nconnection = $nowhere/x\n", "is not set|not set"),
        ("[database]\nconnection = $connection\n", "not set"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path, text, said):
    with pytest.raises(InvalidRequest, match=said):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(HostFileError, match="glance-api"):
        read_configuration(tmp_path / "glance-api.conf")
