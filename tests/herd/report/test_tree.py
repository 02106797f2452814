from __future__ import annotations

import errno
import os

import pytest

from cowherd.herd.overlays.clone import clone
from cowherd.herd.report.tree import tree
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")


def test_every_image_is_told_with_depth_seal_and_status(tmp_path):
    base = make_base(tmp_path / "base", noise(65536))
    clone(base, tmp_path / "a")
    make_overlay(tmp_path / "b", "a")
    write(base, "write -P 1 0 1k")
    nodes = tree([tmp_path]).nodes
    told = [(node.path.name, node.depth, node.level, node.status.value, node.dependents, node.bound) for node in nodes]
    assert told == [
        ("base", 0, "recorded", "touched", 2, False),
        ("a", 1, None, "touched", 1, True),
        ("b", 2, None, "touched", 0, False),
    ]
    assert [node.virtual_size for node in nodes] == [65536] * 3
    assert nodes[0].disk_size == base.stat().st_blocks * 512


def test_a_missing_base_is_named(tmp_path):
    base = make_base(tmp_path / "base", noise(65536))
    make_overlay(tmp_path / "o", "base")
    base.unlink()
    node = tree([tmp_path]).nodes[0]
    assert (node.base, node.status.value) == (base, "missing-base")
    assert "No such file" in node.detail


def test_what_only_a_seal_is_left_of_and_what_cannot_be_read_are_told(tmp_path, monkeypatch):
    clone(make_base(tmp_path / "base", noise(65536)), tmp_path / "o")
    (tmp_path / "base").unlink()
    make_base(tmp_path / "secret", noise(65536))

    def refuse(path, *arguments, real=os.open, **options):
        if os.fspath(path) == os.fspath(tmp_path / "secret"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    found = tree([tmp_path])
    assert found.directories == (tmp_path,)
    assert found.gone == (tmp_path / "base",)
    assert found.unreadable == (tmp_path / "secret",)


def test_a_damaged_seal_is_told(tmp_path):
    clone(make_base(tmp_path / "base", noise(65536)), tmp_path / "o")
    seal = tmp_path / "base.seal"
    seal.chmod(0o644)
    seal.write_bytes(seal.read_bytes()[:50])
    assert tree([tmp_path]).nodes[0].level == "damaged"
