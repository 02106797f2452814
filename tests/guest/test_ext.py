"""ext2, ext3 and ext4 as they are read here, held against the kernel's own and e2fsprogs."""

from __future__ import annotations

import filecmp
import hashlib
import os
import random
import shutil
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.guest.chart import FileSystem
from cowherd.guest.ext import read_ext
from cowherd.guest.ext.inodes import journal_of
from cowherd.guest.ext.journal import Replayed, replay
from cowherd.guest.ext.layout import Layout
from cowherd.guest.source import Cached, Malformed, Volume
from tests.guest import truth
from tests.guest.truth import EXT4
from tests.storage.hosts import run

MIB = 1 << 20
JOURNAL_MAGIC = b"\xc0\x3b\x39\x98"


def volume(data: bytes | bytearray) -> Volume:
    disk = Cached(lambda offset, length: bytes(data[offset : offset + length]), len(data))
    return Volume(disk, "the whole disk", [(0, len(data))])


def make(raw: Path, *options: str, size: int = 48 * MIB) -> Path:
    with raw.open("wb") as file:
        file.truncate(size)
    run("mke2fs", "-q", "-F", *options, raw)
    return raw


def require_as_shown(data: bytes, system: FileSystem, shown: dict[str, str]) -> None:
    """Asserts that the paths, and the content of what is plain bytes, are what the kernel shows."""
    assert {f"{path}/" if entry.kind == "directory" else path for path, entry in system.files.items()} == shown.keys()
    for path, entry in system.files.items():
        if entry.kind == "file" and entry.digest is None:
            found = bytearray(entry.size)
            for offset, start, length in entry.runs.tolist():
                found[offset : offset + length] = data[start : start + length]
            assert (path, hashlib.sha256(found).hexdigest()) == (path, shown[path])


def work_and_pull_the_plug(folder: Path, raw: Path, copy: Path) -> None:
    """Writes, deletes and writes again, so that the log holds blocks, revocations, content and files without a name."""
    truth.fill(folder, 1, 30)
    os.sync()
    for turn in range(3):
        truth.churn(folder, turn + 5, 12)
        (folder / f"like a log {turn}").write_bytes(JOURNAL_MAGIC + random.Random(turn).randbytes(9000))
        (folder / f"many{turn}").mkdir()
        for number in range(60):
            (folder / f"many{turn}" / f"file{number}").write_text("x")
        if turn:
            shutil.rmtree(folder / f"many{turn - 1}")
        _sync(folder)
    with (folder / "open").open("wb") as held:
        held.write(random.Random(1).randbytes(50000))
        (folder / "open").unlink()
        (folder / "last").write_text("last")
        _sync(folder / "last")
        _copy_at_one_moment(raw, copy)


def _copy_at_one_moment(raw: Path, copy: Path) -> None:
    """Copies what lies on the disk; the kernel may write to it in between, and then the copy is of no one moment."""
    for _ in range(50):
        shutil.copy(raw, copy)
        if filecmp.cmp(raw, copy, shallow=False):
            return
        filecmp.clear_cache()
    raise AssertionError("the kernel never stopped writing")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


FORMS = [
    "-t ext4 -O meta_bg,^resize_inode",
    "-t ext4 -O meta_bg,^resize_inode -b 4096 -g 256",
    "-t ext4 -O bigalloc -C 16384",
    "-t ext4 -O bigalloc,meta_bg,^resize_inode -C 8192 -g 8192",
    "-t ext4 -O ea_inode -b 4096",
    "-t ext4 -O inline_data",
    "-t ext4 -O inline_data,^metadata_csum -I 512 -b 4096",
]


@pytest.mark.parametrize("options", FORMS)
def test_each_form_of_ext4_is_read_as_the_kernel_shows_it(tmp_path, options):
    truth.require_mounts(tmp_path, EXT4)
    raw = make(tmp_path / "raw", *options.split())
    with truth.mounted(raw, EXT4) as folder:
        truth.fill(folder, 1, 30)
        truth.churn(folder, 2, 15)
        (folder / "few" / "more").mkdir(parents=True)
        for number in range(12):
            (folder / "few" / f"file{number}").write_text("x" * number * 15)
        (folder / "few" / "link").symlink_to("y" * 90)
        if "ea_inode" in options:
            os.setxattr(folder / "few" / "file1", "user.large", b"v" * 60000)
    run("e2fsck", "-fn", raw)
    with truth.mounted(raw, EXT4, "ro") as folder:
        shown = truth.listing(folder)
        inside = {path: _told(folder, path) for path in shown if path.startswith("/few/file")}
    data = raw.read_bytes()
    system = read_ext(volume(data))
    assert (system.contradictions, system.notes, system.checked) == ((), (), True)
    require_as_shown(data, system, shown)
    inline = {path: digest for path, digest in inside.items() if system.files[path].digest}
    assert {path: system.files[path].digest for path in inline} == inline
    assert bool(inline) == ("inline_data" in options)
    unexplained = system.owners(system.span).get("other", 0)
    assert unexplained == 0


def _told(folder: Path, path: str) -> str:
    """What a file that is kept inside of its inode is known by."""
    return hashlib.sha256(bytes([stat.S_IFREG >> 12]) + Path(f"{folder}{path}").read_bytes()).hexdigest()


DIRTY = [
    ("-t ext4", ""),
    ("-t ext3", ""),
    ("-t ext4 -O ^metadata_csum,^64bit", "data=journal"),
    ("-t ext4 -J size=4", "data=journal"),
    ("-t ext4 -O orphan_file", ""),
]


@pytest.mark.parametrize(("make_options", "mount_options"), DIRTY)
def test_what_was_not_unmounted_is_read_as_the_kernel_shows_it_after_a_mount(tmp_path, make_options, mount_options):
    truth.require_mounts(tmp_path, EXT4)
    raw, copy = make(tmp_path / "raw", *make_options.split()), tmp_path / "copy"
    with truth.mounted(raw, EXT4, mount_options) as folder:
        work_and_pull_the_plug(folder, raw, copy)
    data = copy.read_bytes()
    assert Layout(volume(data)).needs_recovery
    with truth.mounted(copy, EXT4) as folder:
        shown = truth.listing(folder)
    assert "/last" in shown
    system = read_ext(volume(data))
    assert (system.contradictions, system.notes, system.checked) == ((), (), True)
    require_as_shown(data, system, shown)


@pytest.mark.parametrize("version", ["", "-c -v 1", "-c -v 2", "-c -v 3"])
@pytest.mark.parametrize("wide", ["64bit", "^64bit"])
def test_blocks_are_replayed_as_e2fsck_does(tmp_path, version, wide):
    truth.require("debugfs")
    raw = make(tmp_path / "raw", "-t", "ext4", "-O", wide)
    pieces = {block: JOURNAL_MAGIC[: 4 * (block % 2)] + random.Random(block).randbytes(1020) for block in (30001, 30002, 30003)}
    script = tmp_path / "script"
    lines = [f"jo {version}"]
    for block, piece in pieces.items():
        (tmp_path / str(block)).write_bytes(piece.ljust(1024, b"\1"))
        lines.append(f"jw -b {block} {tmp_path / str(block)}")
    script.write_text("\n".join([*lines, "jw -r 30002", f"jw -b 30003 {tmp_path / '30001'}", "jc"]) + "\n")
    run("debugfs", "-w", "-f", script, raw)
    data = raw.read_bytes()
    run("e2fsck", "-E", "journal_only", "-p", raw)
    after = raw.read_bytes()
    layout = Layout(volume(data))
    log = replay(layout, journal_of(layout))
    view = Replayed(layout.volume, layout.block, log)
    assert log.problems == []
    assert log.moved.keys() == {30001, 30003}
    for block in pieces:
        start = block * 1024
        assert view.read(start, 1024) == after[start : start + 1024]
    assert view.read(30000 * 1024 + 7, 5000) == after[30000 * 1024 + 7 :][:5000]


def test_a_block_of_the_log_that_does_not_match_its_checksum_is_a_contradiction(tmp_path):
    truth.require("debugfs")
    raw = make(tmp_path / "raw", "-t", "ext4")
    piece = tmp_path / "piece"
    piece.write_bytes(random.Random(1).randbytes(1024))
    script = tmp_path / "script"
    script.write_text(f"jo -c -v 3\njw -b 30001 {piece}\njc\n")
    run("debugfs", "-w", "-f", script, raw)
    data = bytearray(raw.read_bytes())
    at = data.index(piece.read_bytes())
    data[at] ^= 1
    system = read_ext(volume(data))
    assert system.contradictions[0] == "the checksum of block 30001 in its log is wrong"


def test_a_log_on_another_device_is_named_where_it_is_needed(tmp_path):
    raw = make(tmp_path / "raw", "-t", "ext4", "-O", "^has_journal")
    data = bytearray(raw.read_bytes())
    compat, incompat = struct.unpack_from("<II", data, 1024 + 92)
    struct.pack_into("<II", data, 1024 + 92, compat | 4, incompat | 4)
    with pytest.raises(Malformed, match="its log lies on another device"):
        read_ext(volume(data))


def test_fast_commits_are_named(tmp_path):
    truth.require_mounts(tmp_path, EXT4)
    raw, copy = make(tmp_path / "raw", "-t", "ext4", "-O", "fast_commit", "-b", "4096"), tmp_path / "copy"
    with truth.mounted(raw, EXT4) as folder:
        work_and_pull_the_plug(folder, raw, copy)
        system = read_ext(volume(copy.read_bytes()))
        for turn in range(5):  # the kernel's clock may have ended the transaction by a whole commit just before
            if system.notes:
                break
            (folder / f"once more {turn}").write_text("more")
            _sync(folder / f"once more {turn}")
            _copy_at_one_moment(raw, copy)
            system = read_ext(volume(copy.read_bytes()))
    assert system.notes == ("its log has fast commits, which were not replayed",)
    assert not system.checked


@pytest.fixture(scope="module")
def dirty(tmp_path_factory) -> bytes:
    """An ext4 whose log holds some blocks of its structures."""
    truth.require("debugfs")
    folder = tmp_path_factory.mktemp("dirty")
    (folder / "files").mkdir()
    truth.fill(folder / "files", 1, 20)
    raw = make(folder / "raw", "-t", "ext4", "-O", "^metadata_csum", "-J", "size=1", "-d", folder / "files", size=16 * MIB)
    data = raw.read_bytes()
    lines = ["jo -v 1"]
    for block in range(2, 400, 7):
        (folder / str(block)).write_bytes(data[block * 1024 : block * 1024 + 1024])
        lines.append(f"jw -b {block} {folder / str(block)}")
    (folder / "script").write_text("\n".join([*lines, "jc"]) + "\n")
    run("debugfs", "-w", "-f", folder / "script", raw)
    return raw.read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_log_is_read_or_refused(dirty, data):
    layout = Layout(volume(dirty))
    starts = [block * 1024 for _, block, count, _ in journal_of(layout).mapped for block in range(block, block + min(count, 12))]
    found = bytearray(dirty)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 120))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        found[at : at + len(patch)] = patch
    try:
        system = read_ext(volume(found))
    except Malformed:
        return
    assert all(start + length <= len(found) for entry in system.files.values() for _, start, length in entry.runs.tolist())
