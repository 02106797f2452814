"""The process that reads a guest's file systems may be misled, crash or be exhausted; the caller gets a reason."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.guest.ext import read_ext
from cowherd.guest.sandbox import chart_of
from cowherd.guest.source import Cached, Malformed, Volume
from tests.guest import truth

MIB = 1 << 20


@pytest.fixture(scope="module")
def ext4(tmp_path_factory):
    """The bytes of an ext4 file system with some files."""
    folder = tmp_path_factory.mktemp("files")
    truth.fill(folder, 1, 20)
    raw = tmp_path_factory.mktemp("disk") / "raw"
    raw.write_bytes(bytes(16 * MIB))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", folder, raw], check=True)
    return raw.read_bytes()


def charted(data: bytes, **limits):
    def readinto(offset, buffer):
        buffer[:] = data[offset : offset + len(buffer)]

    return chart_of(readinto, len(data), **limits)


def test_a_file_system_is_read_in_another_process(ext4):
    (system,) = charted(ext4).systems
    assert (system.kind, system.place, system.contradictions) == ("ext4", "the whole disk", ())
    entry = system.files["/dir3/file3"]
    content = b"".join(ext4[start : start + length] for _, start, length in entry.runs.tolist())
    assert len(content) == entry.size


def test_every_byte_is_content_or_structure_or_unused(ext4):
    from cowherd import extents

    (system,) = charted(ext4).systems
    total = extents.total
    assert not len(extents.intersect(system.content, system.metadata))
    unused = extents.subtract(extents.subtract(system.span, system.content), system.metadata)
    assert total(system.content) + total(system.metadata) + total(unused) == len(ext4)
    assert total(system.free) <= total(unused)


def test_too_little_memory_leaves_the_disk_uncharted_with_the_reason(ext4):
    chart = charted(ext4, memory=64 << 20)
    assert chart.systems == ()
    assert "could not be read" in chart.uncharted[0].reason


def test_too_little_time_leaves_the_disk_uncharted_with_the_reason(ext4):
    (part,) = charted(ext4, seconds=0).uncharted
    assert part.span.tolist() == [[0, len(ext4)]]
    assert "too long" in part.reason


def test_an_error_of_the_disk_is_the_callers(ext4):
    def readinto(offset, buffer):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        chart_of(readinto, len(ext4))


def test_how_far_the_reading_is_can_be_watched(ext4):
    seen = []
    charted(ext4, report=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert seen[-1] == 1


def test_a_disk_of_noise_is_uncharted():
    (part,) = charted(b"\x5a" * MIB).uncharted
    assert "no file system that is known" in part.reason


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2 * MIB - 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=12))
def test_a_damaged_ext4_is_read_or_refused(ext4, damage):
    data = bytearray(ext4)
    for offset, patch in damage:
        data[offset : offset + len(patch)] = patch
    disk = Cached(lambda offset, length: bytes(data[offset : offset + length]), len(data))
    try:
        system = read_ext(Volume(disk, "disk", [(0, len(data))]))
    except Malformed:
        return
    assert all(start + length <= len(data) for entry in system.files.values() for _, start, length in entry.runs.tolist())


@pytest.mark.parametrize(("make", "name"), [(["mkfs.ntfs", "-q", "-F"], "NTFS"), (["mkfs.fat"], "FAT16")], ids=["NTFS", "FAT"])
@settings(max_examples=12)
@given(damage=st.lists(st.tuples(st.integers(0, MIB - 1), st.binary(min_size=1, max_size=8)), max_size=8))
def test_damage_that_misleads_the_library_ends_in_a_chart_all_the_same(tmp_path_factory, make, name, damage):
    truth.require(make[0])
    raw = tmp_path_factory.mktemp("disk") / "raw"
    raw.write_bytes(bytes(32 * MIB))
    subprocess.run([*make, raw], check=True, capture_output=True)
    data = bytearray(raw.read_bytes())
    raw.unlink()
    for offset, patch in damage:
        data[offset : offset + len(patch)] = patch
    chart = charted(bytes(data), seconds=20)
    assert chart.systems or chart.uncharted
    assert damage or [system.kind for system in chart.systems] == [name]
