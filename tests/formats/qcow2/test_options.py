"""The choices for a new image: as `qemu-img create -o` takes and refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowherd.errors import InvalidRequest
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.options import PREALLOCATIONS, Qcow2Options
from tests.qemu import Tool


def test_the_defaults_are_those_of_qemu_img():
    assert Qcow2Options.from_mapping({}) == Qcow2Options(3, 65536, False, 16, False, "zlib", "off")


def test_every_option_is_read():
    chosen = Qcow2Options.from_mapping(
        {
            "compat": "1.1",
            "cluster_size": "2M",
            "extended_l2": "on",
            "refcount_bits": "64",
            "lazy_refcounts": "yes",
            "compression_type": "zstd",
            "preallocation": "metadata",
        }
    )
    assert chosen == Qcow2Options(3, 2 << 20, True, 64, True, "zstd", "metadata")
    assert chosen.cluster_bits == 21
    assert chosen.incompatible == layout.INCOMPATIBLE_COMPRESSION | layout.INCOMPATIBLE_EXTENDED_L2


@pytest.mark.parametrize(("text", "version"), [("0.10", 2), ("v2", 2), ("1.1", 3), ("v3", 3)])
def test_versions_have_two_names(text: str, version: int):
    assert Qcow2Options.from_mapping({"compat": text}).version == version


REFUSED = [
    {"cluster_size": "256"},
    {"cluster_size": "4M"},
    {"cluster_size": "65537"},
    {"cluster_size": "0"},
    {"refcount_bits": "0"},
    {"refcount_bits": "3"},
    {"refcount_bits": "128"},
    {"extended_l2": "on", "cluster_size": "8k"},
    {"compat": "0.10", "extended_l2": "on"},
    {"compat": "0.10", "lazy_refcounts": "on"},
    {"compat": "0.10", "refcount_bits": "8"},
    {"compat": "0.10", "compression_type": "zstd"},
]


@pytest.mark.qemu
@pytest.mark.parametrize("options", REFUSED, ids=str)
def test_what_qemu_img_refuses_is_refused_in_its_words(tmp_path: Path, qemu_img: Tool, options: dict[str, str]):
    with pytest.raises(InvalidRequest) as caught:
        Qcow2Options.from_mapping(options)
    chosen = ",".join(f"{name}={value}" for name, value in options.items())
    done = qemu_img.run("create", "-q", "-f", "qcow2", "-o", chosen, tmp_path / "image", "1M")
    assert done.returncode == 1
    assert str(caught.value) in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"size": "1M"},
        {"backing_file": "base"},
        {"compat": "4"},
        {"cluster_size": "large"},
        {"cluster_size": "-1"},
        {"refcount_bits": "many"},
        {"refcount_bits": "-16"},
        {"extended_l2": "perhaps"},
        {"lazy_refcounts": ""},
        {"compression_type": "lzma"},
        {"preallocation": "some"},
        {"data_file": "elsewhere"},
        {"encrypt.format": "luks"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options: dict[str, str]):
    with pytest.raises(InvalidRequest) as caught:
        Qcow2Options.from_mapping(options)
    assert caught.value.exit_code == 2
    assert str(caught.value)


@pytest.mark.parametrize("text", PREALLOCATIONS)
def test_preallocations_are_known(text: str):
    assert Qcow2Options.from_mapping({"preallocation": text}).preallocation == text


def test_choices_made_in_code_are_checked_too():
    with pytest.raises(InvalidRequest, match="version 1"):
        Qcow2Options(version=1)
    with pytest.raises(InvalidRequest, match="power of two"):
        Qcow2Options(cluster_size=-512)
