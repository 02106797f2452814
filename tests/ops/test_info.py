"""The facts of an image."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cowherd.errors import BackingFileError, HostFileError, ImageFormatError, ImageInUse, UnsupportedFeature
from cowherd.ops.create import create
from cowherd.ops.info import BackingLoop, chain_info, full_backing_name, image_info, iter_chain
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """top.qcow2 on in/middle.qcow2 on base.raw; stands beside the top."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    create("base.raw", 1 << 20, format="raw")
    create("in/middle.qcow2", backing="../base.raw", backing_format="raw")
    create("top.qcow2", backing="in/middle.qcow2", backing_format="qcow2")
    return tmp_path


def test_a_chain_is_told_from_the_top_as_seen_from_here(chain):
    found = chain_info("top.qcow2")
    assert [(one.filename, one.format) for one in found] == [
        ("top.qcow2", "qcow2"),
        ("in/middle.qcow2", "qcow2"),
        ("in/../base.raw", "raw"),
    ]
    assert [one.backing_name for one in found] == ["in/middle.qcow2", "../base.raw", None]


def test_one_image_is_told_without_looking_for_its_base(chain):
    (chain / "base.raw").unlink()
    assert image_info("in/middle.qcow2").backing_filename == "in/../base.raw"


def test_the_walk_gives_what_it_found_before_an_error(chain):
    (chain / "base.raw").unlink()
    walk = iter_chain("top.qcow2")
    assert [next(walk).filename, next(walk).filename] == ["top.qcow2", "in/middle.qcow2"]
    with pytest.raises(HostFileError):
        next(walk)


def test_a_raw_image_is_counted_in_whole_sectors(tmp_path):
    (tmp_path / "odd.raw").write_bytes(b"x" * 513)
    info = image_info(tmp_path / "odd.raw")
    assert (info.virtual_size, info.file.length, info.cluster_size, info.qcow2) == (1024, 1024, None, None)


def test_the_facts_of_qcow2_are_those_it_was_made_with(tmp_path):
    options = {
        "cluster_size": "2M",
        "extended_l2": "on",
        "refcount_bits": "64",
        "lazy_refcounts": "on",
        "compression_type": "zstd",
    }
    create(tmp_path / "disk.qcow2", 1 << 30, options=options)
    info = image_info(tmp_path / "disk.qcow2")
    facts = info.qcow2
    assert (info.virtual_size, info.cluster_size, info.dirty, info.snapshots) == (1 << 30, 2 << 20, False, ())
    assert (facts.version, facts.compression, facts.lazy_refcounts, facts.refcount_bits) == (3, "zstd", True, 64)
    assert (facts.extended_l2, facts.corrupt, facts.bitmaps, facts.data_file, facts.encryption) == (True, False, (), None, None)


def test_a_loop_is_an_error(chain):
    create("loop.qcow2", 1 << 20, backing="loop.qcow2", backing_format="qcow2", unsafe=True)
    with pytest.raises(BackingLoop, match="infinite loop"):
        chain_info("loop.qcow2")


def test_a_protocol_is_an_error_of_the_chain_only(chain):
    create("far.qcow2", 1 << 20, backing="nbd://host/disk", backing_format="raw", unsafe=True)
    assert image_info("far.qcow2").backing_filename == "nbd://host/disk"
    with pytest.raises(BackingFileError):
        chain_info("far.qcow2")


def test_an_image_in_use_needs_force_share(chain):
    with HostFile.open("top.qcow2", writable=True, lock=WRITE):
        with pytest.raises(ImageInUse):
            image_info("top.qcow2")
        assert image_info("top.qcow2", force_share=True).format == "qcow2"


def test_what_is_no_image_of_the_format_is_an_error(chain):
    with pytest.raises(ImageFormatError):
        image_info("base.raw", format="qcow2")
    with pytest.raises(UnsupportedFeature):
        image_info("base.raw", format="vmdk")
    with pytest.raises(HostFileError):
        image_info("nothere")


@pytest.mark.parametrize(
    ("overlay", "backing", "seen"),
    [
        ("a", "b", "b"),
        ("x/a", "b", "x/b"),
        ("./a", "b", "./b"),
        ("/x/a", "../b", "/x/../b"),
        ("x/a", "/b", "/b"),
        ("x/a", "nbd:b", "nbd:b"),
        ("x/a", "y/b:c", "x/y/b:c"),
    ],
)
def test_a_stored_name_is_seen_from_where_the_overlay_is_seen(overlay, backing, seen):
    assert full_backing_name(overlay, backing) == seen


def test_it_does_not_import_numpy():
    code = "import sys, cowherd.ops.info; sys.exit('numpy' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
