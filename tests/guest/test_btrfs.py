"""btrfs as it is read here, held against the kernel's own and btrfs-progs."""

from __future__ import annotations

import hashlib
import os
import random
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents
from cowherd.guest.btrfs import read_btrfs
from cowherd.guest.chart import FileSystem
from cowherd.guest.crc import crc32c
from cowherd.guest.source import Cached, Malformed, Volume
from cowherd.guest.survey import survey
from tests.guest import truth
from tests.guest.truth import BTRFS
from tests.storage.hosts import run

MIB = 1 << 20
NODE = 16384


def volume(data: bytes | bytearray, doubted=None) -> Volume:
    disk = Cached(lambda offset, length: bytes(data[offset : offset + length]), len(data), doubted=doubted)
    return Volume(disk, "the whole disk", [(0, len(data))])


def content(data: bytes, system: FileSystem, path: str) -> bytes:
    entry = system.files[path]
    found = bytearray(entry.size)
    for offset, start, length in entry.runs.tolist():
        found[offset : offset + length] = data[start : start + length]
    return bytes(found)


def made(folder: Path, *options: str, size: int = 128 * MIB) -> Path:
    """A file system with some files, made without mounting it."""
    truth.require("mkfs.btrfs")
    files, raw = folder / "files", folder / "raw"
    files.mkdir()
    truth.fill(files, 1, 20)
    with raw.open("wb") as file:
        file.truncate(size)
    run("mkfs.btrfs", "-q", "--rootdir", files, *options, raw)
    return raw


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> bytes:
    """One copy of everything."""
    return made(tmp_path_factory.mktemp("single"), "-m", "single", size=48 * MIB).read_bytes()


@pytest.fixture(scope="module")
def double(tmp_path_factory) -> bytes:
    """Two copies of everything."""
    return made(tmp_path_factory.mktemp("double"), "-M", "-m", "dup", "-d", "dup", size=160 * MIB).read_bytes()


FORMS = [
    "",
    "-M",
    "-m single -n 4096",
    "--csum xxhash",
    "--csum sha256 -R ^free-space-tree",
    "--csum blake2",
    "-O ^no-holes,^skinny-metadata,^extref",
]


@pytest.mark.parametrize("options", FORMS)
def test_what_the_kernel_shows_of_subvolumes_and_snapshots_is_what_is_read(tmp_path, options):
    truth.require_mounts(tmp_path, BTRFS)
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(128 * MIB)
    run("mkfs.btrfs", "-q", *options.split(), raw)
    with truth.mounted(raw, BTRFS) as folder:
        truth.fill(folder, 1, 20)
        run("btrfs", "subvolume", "create", folder / "dir1" / "home")
        truth.fill(folder / "dir1" / "home", 2, 8)
        run("btrfs", "subvolume", "snapshot", folder, folder / "before")
        truth.churn(folder, 3, 20)
        run("btrfs", "subvolume", "snapshot", "-r", folder / "dir1" / "home", folder / "kept")
        (folder / "link").symlink_to("dir1/file1")
        os.mkfifo(folder / "pipe")
        os.link(folder / "sparse", folder / "other name")
        run("fallocate", "-l", "1M", folder / "reserved")
        os.sync()
    with truth.mounted(raw, BTRFS, "ro") as folder:
        shown = truth.listing(folder)
    data = raw.read_bytes()
    system = read_btrfs(volume(data))
    assert (system.contradictions, system.notes) == ((), ())
    assert {f"{path}/" if entry.kind == "directory" else path for path, entry in system.files.items()} == shown.keys()
    assert "/before/dir1/home/" in shown
    assert "/before/dir1/home/dir1/" not in shown
    plain = [path for path, entry in system.files.items() if entry.kind == "file" and entry.digest is None]
    assert len(plain) > 20
    assert {path: hashlib.sha256(content(data, system, path)).hexdigest() for path in plain} == {p: shown[p] for p in plain}


def test_every_block_of_a_tree_is_where_btrfs_progs_find_it(tmp_path, single):
    raw = tmp_path / "raw"
    raw.write_bytes(single)
    told = subprocess.run(["btrfs", "inspect-internal", "dump-tree", raw], capture_output=True, text=True, check=True).stdout
    addresses = {int(found) for found in re.findall(r"^(?:leaf|node) (\d+) ", told, re.MULTILINE)}
    chunks = _chunks(told)
    places = [_place(chunks, address) for address in addresses]
    expected = extents.ranges((place, place + NODE) for place in places)
    system = read_btrfs(volume(single))
    trees = [area for name, area in system.areas if "tree" in name]
    assert extents.normalised(np.concatenate(trees)).tolist() == expected.tolist()


def _chunks(told: str) -> list[tuple[int, int, int]]:
    """Start, length and place of the chunks that dump-tree prints."""
    found = re.findall(r"CHUNK_ITEM (\d+)\).*?length (\d+) .*?stripe 0 devid 1 offset (\d+)", told, re.DOTALL)
    return [tuple(map(int, numbers)) for numbers in found]


def _place(chunks: list[tuple[int, int, int]], logical: int) -> int:
    ((start, at),) = {(start, at) for start, length, at in chunks if start <= logical < start + length}
    return logical - start + at


def test_files_lie_where_the_kernel_says(tmp_path):
    truth.require_mounts(tmp_path, BTRFS)
    truth.require("filefrag")
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(128 * MIB)
    run("mkfs.btrfs", "-q", raw)
    with truth.mounted(raw, BTRFS) as folder:
        truth.fill(folder, 1, 30)
        truth.churn(folder, 3, 20)
        os.sync()
        files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 4096]
        told = {f"/{path.relative_to(folder)}": _fragments(path) for path in files}
    told_chunks = subprocess.run(
        ["btrfs", "inspect-internal", "dump-tree", "-t", "chunk", raw], capture_output=True, text=True, check=True
    ).stdout
    chunks = _chunks(told_chunks)
    system = read_btrfs(volume(raw.read_bytes()))
    for path, fragments in told.items():
        expected = []
        for offset, logical, length in fragments:
            expected += [(offset + n, _place(chunks, logical) + n) for n in range(0, length, 4096)]
        found = [(offset + n, at + n) for offset, at, length in system.files[path].runs.tolist() for n in range(0, length, 4096)]
        assert found == expected


def _fragments(path: Path) -> list[tuple[int, int, int]]:
    said = subprocess.run(["filefrag", "-v", "-b4096", path], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^ *\d+: +(\d+)\.\. +\d+: +(\d+)\.\. +\d+: +(\d+):", said, re.MULTILINE)
    return [(int(offset) * 4096, int(logical) * 4096, int(length) * 4096) for offset, logical, length in found]


def test_every_byte_is_content_or_structure_or_unused(double):
    system = read_btrfs(volume(double))
    total = extents.total
    assert not len(extents.intersect(system.content, system.metadata))
    unused = extents.subtract(extents.subtract(system.span, system.content), system.metadata)
    assert total(system.content) + total(system.metadata) + total(unused) == len(double)
    assert 0 < total(system.free) < total(unused)


def damaged(data: bytes, *places: int) -> bytearray:
    found = bytearray(data)
    for place in places:
        found[place] ^= 0xFF
    return found


def test_content_that_does_not_match_its_checksum_cant_be_read(single):
    system = read_btrfs(volume(single))
    path, entry = next((path, entry) for path, entry in system.files.items() if len(entry.runs))
    found = read_btrfs(volume(damaged(single, int(entry.runs[0, 1]))))
    assert "checksum" in found.files[path].problem
    assert [other for other, entry in found.files.items() if entry.problem] == [path]
    assert found.contradictions == ()


def test_the_rest_of_the_last_sector_counts_as_well(single):
    system = read_btrfs(volume(single))
    path, entry = next((path, entry) for path, entry in system.files.items() if len(entry.runs) and entry.size % 4096)
    end = int(entry.runs[-1, 1] + entry.runs[-1, 2])
    found = read_btrfs(volume(damaged(single, end)))
    assert "checksum" in found.files[path].problem
    assert system.owners(np.array([[end, end + 1]], np.int64)) == {"ends of files": 1}


def test_content_that_is_not_in_doubt_is_not_held_against_its_checksum(single):
    entry = next(entry for entry in read_btrfs(volume(single)).files.values() if len(entry.runs))
    place = int(entry.runs[0, 1])
    found = read_btrfs(volume(damaged(single, place), extents.ranges([(0, place)])))
    assert not any(entry.problem for entry in found.files.values())


def test_of_two_copies_the_one_that_is_whole_is_read(double):
    system = read_btrfs(volume(double))
    path, entry = next((path, entry) for path, entry in system.files.items() if len(entry.runs))
    leaf = next(int(area[0, 0]) for name, area in system.areas if name == "subvolume tree (leaves)")
    broken = damaged(double, int(entry.runs[0, 1]), leaf + 200)
    found = read_btrfs(volume(broken))
    assert found.files.keys() == system.files.keys()
    assert not any(entry.problem for entry in found.files.values())
    assert content(broken, found, path) == content(double, system, path)
    assert found.contradictions == ()
    assert len(found.notes) == 2


def test_a_tree_block_that_is_not_what_is_meant_is_a_contradiction_and_its_files_are_gone(single):
    system = read_btrfs(volume(single))
    leaf = next(int(area[0, 0]) for name, area in system.areas if name == "subvolume tree (leaves)")
    found = read_btrfs(volume(damaged(single, leaf + 200)))
    assert found.contradictions[0].endswith("its checksum is wrong")
    readable = {path for path, entry in found.files.items() if entry.problem is None}
    assert readable < system.files.keys()


def test_in_a_volume_of_two_pieces_all_is_where_the_pieces_lie(single):
    half = len(single) // 2
    disk = bytes(MIB) + single[half:] + single[:half]
    pieces = [(MIB + len(single) - half, half), (MIB, len(single) - half)]
    whole = read_btrfs(volume(single))
    found = read_btrfs(Volume(volume(disk).disk, "volume", pieces))
    assert found.contradictions == ()
    plain = [path for path, entry in whole.files.items() if len(entry.runs)]
    assert {path: content(disk, found, path) for path in plain} == {path: content(single, whole, path) for path in plain}
    assert found.owners(found.span) == whole.owners(whole.span)


@pytest.mark.parametrize("tree", ["chunk tree", "root tree", "extent tree", "device tree", "subvolume tree", "checksum tree"])
def test_what_cant_be_read_is_structure_all_the_same(single, tree):
    system = read_btrfs(volume(single))
    leaf = next(int(area[0, 0]) for name, area in system.areas if name == f"{tree} (leaves)")
    found = read_btrfs(volume(damaged(single, leaf + 200)))
    assert found.contradictions
    hit = np.array([[leaf, leaf + NODE]], np.int64)
    assert extents.intersect(found.metadata, hit).tolist() == hit.tolist()


def test_without_the_tree_of_extents_nothing_is_read(single):
    system = read_btrfs(volume(single))
    leaf = next(int(area[0, 0]) for name, area in system.areas if name == "extent tree (leaves)")
    found = read_btrfs(volume(damaged(single, leaf)))
    assert found.files == {}
    assert "without its extent tree it can't be mounted" in found.contradictions


def test_a_block_of_another_generation_is_not_taken_for_the_one_that_is_meant(single):
    system = read_btrfs(volume(single))
    leaf = next(int(area[0, 0]) for name, area in system.areas if name == "subvolume tree (leaves)")
    data = bytearray(single)
    struct.pack_into("<Q", data, leaf + 0x50, 99)
    struct.pack_into("<I", data, leaf, crc32c(bytes(data[leaf + 32 : leaf + NODE])) ^ 0xFFFFFFFF)
    (problem,) = [problem for problem in read_btrfs(volume(data)).contradictions if "generation 99" in problem]
    assert problem.startswith("without its subvolume tree it can't be mounted")


@pytest.mark.parametrize("profile", ["raid0", "raid1"])
def test_of_several_devices_the_reason_is_said(tmp_path, profile):
    truth.require("mkfs.btrfs")
    disks = [tmp_path / "one", tmp_path / "two"]
    for disk in disks:
        with disk.open("wb") as file:
            file.truncate(128 * MIB)
    run("mkfs.btrfs", "-q", "-d", profile, *disks)
    (part,) = survey(volume(disks[0].read_bytes()).disk).uncharted
    assert "it lies on 2 devices" in part.reason


def test_a_log_that_was_not_replayed_is_named(tmp_path):
    truth.require_mounts(tmp_path, BTRFS)
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(128 * MIB)
    run("mkfs.btrfs", "-q", raw)
    with truth.mounted(raw, BTRFS) as folder:
        (folder / "kept").write_bytes(random.Random(1).randbytes(50000))
        os.sync()
        with (folder / "kept").open("ab") as file:
            file.write(random.Random(2).randbytes(50000))
            file.flush()
            os.fsync(file.fileno())
        data = raw.read_bytes()
    system = read_btrfs(volume(data))
    assert "its log was not replayed" in system.notes[0]
    assert system.contradictions == ()
    assert system.files["/kept"].size == 50000
    assert {"log", "log tree (leaves)"} <= system.owners(system.span).keys()


@pytest.fixture(scope="module")
def blocks(single) -> list[int]:
    """Where the blocks of its trees lie."""
    areas = read_btrfs(volume(single)).areas
    return [at for name, area in areas if "tree" in name for low, high in area.tolist() for at in range(low, high, NODE)]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_btrfs_with_right_checksums_is_read_or_refused(single, blocks, data):
    found: dict[int, bytearray] = {}
    for _ in range(data.draw(st.integers(1, 4))):
        block = data.draw(st.sampled_from(blocks))
        patched = found.setdefault(block, bytearray(single[block : block + NODE]))
        near = data.draw(st.sampled_from([0x60, 0x65, 0x65 + 25 * 4, NODE - 900]))
        at = min(near + data.draw(st.integers(0, 400)), NODE - 8)
        patch = data.draw(st.binary(min_size=1, max_size=8))
        patched[at : at + len(patch)] = patch
        struct.pack_into("<I", patched, 0, crc32c(bytes(patched[32:])) ^ 0xFFFFFFFF)

    def fetch(offset: int, length: int) -> bytes:
        shown = bytearray(single[offset : offset + length])
        for block, patched in found.items():
            if offset <= block < offset + length:
                shown[block - offset : block - offset + NODE] = patched
        return bytes(shown[:length])

    try:
        system = read_btrfs(Volume(Cached(fetch, len(single)), "disk", [(0, len(single))]))
    except Malformed:
        return
    assert all(start + length <= len(single) for entry in system.files.values() for _, start, length in entry.runs.tolist())
