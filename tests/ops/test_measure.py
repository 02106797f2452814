"""How large a new image becomes, against `qemu-img measure`, and against the images themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.ops.measure import Measurement, measure
from tests.images import TELLING, Features, create_with_qemu, run_in_qemu, workload
from tests.qemu import Tool, require


def measured_by_qemu(*arguments: str | Path | int, options: dict[str, str] | None = None) -> Measurement:
    require()
    chosen = ("-o", ",".join(f"{name}={value}" for name, value in options.items())) if options else ()
    document: dict[str, Any] = json.loads(Tool("qemu-img")("measure", "--output=json", *chosen, *arguments))
    return Measurement(document["required"], document["fully-allocated"], document.get("bitmaps"))


@st.composite
def choices(draw: st.DrawFn) -> dict[str, str]:
    chosen = {"cluster_size": str(1 << draw(st.integers(9, 21)))}
    if draw(st.booleans()):
        chosen |= {"compat": "0.10"}
    else:
        chosen |= {"refcount_bits": str(1 << draw(st.integers(0, 6)))}
        chosen |= {"extended_l2": "on"} if int(chosen["cluster_size"]) >= 16384 and draw(st.booleans()) else {}
    return chosen | {"preallocation": draw(st.sampled_from(["off", "metadata", "falloc", "full"]))}


sizes = st.one_of(st.integers(0, 1 << 20), st.integers(0, 1 << 33), st.sampled_from([1 << 40, (1 << 35) - 512]))


@pytest.mark.qemu
@settings(max_examples=60)
@given(sizes, choices())
def test_an_empty_image_is_measured_as_by_qemu_img(size: int, options: dict[str, str]):
    entry = 16 if "extended_l2" in options else 8
    if size * entry > int(options["cluster_size"]) ** 2 << 22:
        with pytest.raises(InvalidRequest, match="too large"):
            measure(size=size, target_format="qcow2", options=options)
    else:
        found = measure(size=size, target_format="qcow2", options=options)
        assert found == measured_by_qemu("-O", "qcow2", "--size", size, options=options)


@pytest.mark.qemu
def test_an_image_that_the_format_can_not_hold_is_refused_in_the_words_of_qemu_img(qemu_img: Tool):
    largest = 128 << 30
    options = {"cluster_size": "512"}
    assert measure(size=largest, target_format="qcow2", options=options) == measured_by_qemu(
        "-O", "qcow2", "--size", largest, options=options
    )
    with pytest.raises(InvalidRequest) as caught:
        measure(size=largest + 1, target_format="qcow2", options=options)
    done = qemu_img.run("measure", "-O", "qcow2", "-o", "cluster_size=512", "--size", largest + 1)
    assert str(caught.value) in done.stderr


@pytest.mark.qemu
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 40])
def test_raw_is_measured_as_by_qemu_img(size: int):
    assert measure(size=size) == measured_by_qemu("--size", size)


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize("target", [{}, {"cluster_size": "512"}, {"cluster_size": "2M"}, {"compat": "0.10"}], ids=str)
@pytest.mark.parametrize("features", TELLING, ids=str)
def test_a_copy_is_measured_as_by_qemu_img(tmp_path: Path, features: Features, target: dict[str, str]):
    path = create_with_qemu(tmp_path / "image.qcow2", features, features.odd_size)
    run_in_qemu(path, workload(7, features, features.odd_size, 12), features)
    found = measure(path, source_format="qcow2", target_format="qcow2", options=target)
    assert found == measured_by_qemu("-O", "qcow2", "-f", "qcow2", path, options=target)
    assert measure(path, source_format="qcow2") == measured_by_qemu("-f", "qcow2", path)


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize("base_size", [3 << 20, 8 << 20, 20 << 20])
def test_the_whole_chain_of_a_source_counts(tmp_path: Path, qemu_img: Tool, qemu_io: Tool, base_size: int):
    base, overlay = tmp_path / "base.raw", tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "raw", base, base_size)
    qemu_io("-f", "raw", "-c", "write 1M 300k", "-c", "write 2500k 100k", base)
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay, "8M")
    qemu_io("-f", "qcow2", "-c", "write 5M 64k", "-c", "write -z 1M 64k", overlay)
    assert measure(overlay, target_format="qcow2") == measured_by_qemu("-O", "qcow2", "-f", "qcow2", overlay)


@pytest.mark.qemu
def test_preallocated_clusters_without_data_do_not_count(tmp_path: Path, qemu_img: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "64M")
    found = measure(path, target_format="qcow2")
    assert found == measured_by_qemu("-O", "qcow2", "-f", "qcow2", path)
    assert found.required < 1 << 20


@pytest.mark.qemu
@pytest.mark.parametrize("size", ["1M", "3G", "0"])
def test_bitmaps_are_measured_as_by_qemu_img(tmp_path: Path, qemu_img: Tool, size: str):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, size)
    for number, granularity in enumerate(["512", "64k", "1M"] if size != "0" else []):
        qemu_img("bitmap", "--add", "-g", granularity, path, f"bitmap-{'ü' * number}")
    for options in ({}, {"cluster_size": "512"}, {"compat": "0.10"}):
        found = measure(path, target_format="qcow2", options=options)
        assert found == measured_by_qemu("-O", "qcow2", "-f", "qcow2", path, options=options)
        assert (found.bitmaps is None) == ("compat" in options)


@pytest.mark.qemu
def test_with_a_backing_file_all_of_the_source_counts(tmp_path: Path, qemu_img: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, 5 * 1000 * 512)
    found = measure(path, target_format="qcow2", backing=True)
    assert found == measured_by_qemu("-O", "qcow2", "-f", "qcow2", path, options={"backing_file": "base"})


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize("features", TELLING, ids=str)
def test_a_converted_image_is_no_larger_than_measured(tmp_path: Path, qemu_img: Tool, features: Features):
    source, target = tmp_path / "source.qcow2", tmp_path / "target.qcow2"
    create_with_qemu(source, Features(), features.odd_size)
    run_in_qemu(source, workload(2, Features(), features.odd_size, 10, ("write",)), Features())
    options = dict(choice.split("=") for choice in features.options.split(","))
    needed = measure(source, target_format="qcow2", options=options).required
    qemu_img("convert", "-f", "qcow2", "-O", "qcow2", "-o", features.options, source, target)
    assert os.path.getsize(target) <= needed


def test_holes_of_a_raw_file_do_not_count(tmp_path: Path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"")
    os.truncate(path, 1 << 30)
    with path.open("r+b") as file:
        file.seek(512 << 20)
        file.write(b"x" * 65536)
    found = measure(path, source_format="raw", target_format="qcow2", options=Qcow2Options())
    assert found.required - measure(size=1 << 30, target_format="qcow2").required == 65536
    assert found.bitmaps is None


def test_exactly_one_of_size_and_image_is_measured(tmp_path: Path):
    with pytest.raises(InvalidRequest, match="either"):
        measure()
    with pytest.raises(InvalidRequest, match="either"):
        measure(tmp_path / "image", size=5)
    with pytest.raises(InvalidRequest, match="-5"):
        measure(size=-5)


def test_only_what_can_be_made_is_measured():
    with pytest.raises(InvalidRequest, match="vmdk"):
        measure(size=5, target_format="vmdk")
    with pytest.raises(InvalidRequest, match="colour"):
        measure(size=5, target_format="qcow2", options={"colour": "red"})


def test_a_source_that_is_not_there_is_a_host_error(tmp_path: Path):
    with pytest.raises(HostFileError, match="No such file"):
        measure(tmp_path / "nothing")
