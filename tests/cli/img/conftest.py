"""The images that the tests of cowherd-img share."""

from __future__ import annotations

import shutil

import pytest

from tests import qemu
from tests.cli.img import gallery

pytest.register_assert_rewrite("tests.cli.img.both")


@pytest.fixture(scope="session")
def shared_gallery(tmp_path_factory):
    """The gallery, to be read only."""
    reason = qemu.problem(["qemu-io"])
    if reason is None:
        folder = tmp_path_factory.mktemp("gallery")
        gallery.build(folder, qemu.Tool("qemu-img"), qemu.Tool("qemu-io"))
        return folder
    qemu.require("qemu-io")
    raise AssertionError("unreachable")


@pytest.fixture
def in_gallery(shared_gallery, monkeypatch):
    """Stands in the gallery, which may only be read."""
    monkeypatch.chdir(shared_gallery)
    return shared_gallery


@pytest.fixture
def own_gallery(shared_gallery, tmp_path):
    """A copy of the gallery that may be changed."""
    folder = tmp_path / "images"
    shutil.copytree(shared_gallery, folder)
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Stands in an empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
