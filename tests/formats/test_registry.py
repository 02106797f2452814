"""The registry of formats: what each can do is what its images do."""

from __future__ import annotations

import pytest

from cowherd.errors import InvalidRequest
from cowherd.formats import registry
from cowherd.formats.probe import probe
from cowherd.formats.reference import BackingReference
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from cowherd.storage.hostfile import HostFile

MIB = 1 << 20
BUILT_IN = list(registry.FORMATS)
CAPABILITIES = {
    "compressed": lambda disk: disk.write_compressed(0, bytes(64 << 10)),
    "backing": lambda disk: disk.set_backing(BackingReference("base", "raw")),
    "extensions": lambda disk: disk.layers[0].set_extension(0x12345678, b"something"),
    "writable": lambda disk: disk.write(0, b"!"),
}


@pytest.fixture(params=BUILT_IN)
def image(request, tmp_path):
    """An empty image of each format."""
    create(tmp_path / "image", MIB, format=request.param)
    return request.param, tmp_path / "image"


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_an_image_does_what_its_format_can(image, capability):
    name, path = image
    with open_disk(path, format=name, writable=True) as disk:
        if getattr(registry.named(name), capability):
            CAPABILITIES[capability](disk)
        else:
            with pytest.raises(InvalidRequest, match=f"^a {name} image has no "):
                CAPABILITIES[capability](disk)


def test_snapshots_and_bitmaps_are_where_the_format_has_them(image):
    name, path = image
    with open_disk(path, format=name) as disk:
        assert disk.layers[0].snapshots() == ()
        assert disk.layers[0].bitmaps() == (() if registry.named(name).bitmaps else None)


def test_an_image_is_recognised_as_what_it_was_made(image):
    name, path = image
    with HostFile.open(path, lock=None) as file:
        assert probe(file) == name


def test_an_empty_image_holds_nothing_until_it_is_written_to(image):
    name, path = image
    for content, empty in ((b"", True), (b"!", False)):
        with open_disk(path, format=name, writable=True) as disk:
            disk.write(0, content)
        with HostFile.open(path, lock=None) as file:
            assert registry.named(name).holds_nothing(file) is empty


def test_facts_and_layers_agree(image):
    name, path = image
    with HostFile.open(path, lock=None) as file:
        facts = registry.named(name).facts(file)
    with open_disk(path, format=name) as disk:
        assert (facts.virtual_size, facts.cluster_size or 1) == (disk.size, disk.layers[0].cluster_size)


def test_a_format_that_is_not_known_can_do_nothing():
    foreign = registry.named("vmdk")
    assert not foreign.is_known
    flags = [name for name, value in vars(registry.Format).items() if isinstance(value, bool)]
    assert {"writable", "checked", "verbatim"} < set(flags)
    assert not any(getattr(foreign, flag) for flag in flags)


def test_a_format_replaces_another_one_of_its_name(monkeypatch):
    class Mine(registry.Format):
        name = "mine"

    monkeypatch.setitem(registry.FORMATS, "mine", registry.RAW)
    registry.add(Mine())
    assert not registry.named("mine").writable
