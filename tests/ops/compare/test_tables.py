"""How far images are found equal without arrays: never too far, and no further than there is need to read."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageInUse
from cowherd.formats.outline import RawOutline
from cowherd.image import outline
from cowherd.image.open import open_disk
from cowherd.image.outline import Outline
from cowherd.ops.compare import tables
from cowherd.ops.compare.disks import compare_disks
from cowherd.ops.compare.tables import ComparedTables, compare_tables
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB, Features, changed_by_cowherd, create_with_cowherd, workload

PLAIN = ("write", "zero", "unmap", "discard")
QCOW2 = ("qcow2", "qcow2")
SMALL = Features(4 * KIB)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each reading, as they happen."""
    found: list[int] = []
    original = Outline.read

    def read(chain: Outline, places: Iterable[tuple[int, int, int]], buffer: memoryview) -> None:
        found.append(len(buffer))
        original(chain, places, buffer)

    monkeypatch.setattr(Outline, "read", read)
    return found


def overlay(path: Path, base: Path | None, size: int, writes: dict[int, bytes], features: Features = SMALL) -> Path:
    create_with_cowherd(path, features, size, backing=base, backing_format="raw" if base and base.suffix == ".raw" else "qcow2")
    with open_disk(path, format="qcow2", writable=True) as disk:
        for offset, data in writes.items():
            disk.write(offset, data)
    return path


def raw(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


@pytest.mark.parametrize("seed", range(12))
def test_random_chains_are_never_called_equal_beyond_their_first_difference(tmp_path: Path, seed: int):
    """Siblings of one base, written to alike but for the last requests, and of sizes that may differ."""
    choose = random.Random(seed)
    base = raw(tmp_path / "base.raw", choose.choice((MIB, 600 * KIB)))
    sizes = [choose.choice((MIB, MIB + 512, 300 * KIB)) for _ in "ab"]
    requests = workload(seed, SMALL, min(sizes), 10, PLAIN)
    paths = [overlay(tmp_path / name, base, size, {}) for name, size in zip("ab", sizes, strict=True)]
    changed_by_cowherd(paths[0], requests)
    changed_by_cowherd(paths[1], requests[: choose.choice((10, 9, 7))])
    found = compare_tables(*paths, QCOW2)
    assert found is not None
    with open_disk(paths[0]) as a, open_disk(paths[1]) as b:
        told = compare_disks(a, b)
        assert found.sizes == (a.size, b.size)
    assert found.identical is told.identical
    assert told.identical or found.equal_until <= (told.offset or 0)


def test_of_siblings_only_what_they_hold_themselves_is_read(tmp_path: Path, reads: list[int]):
    base = raw(tmp_path / "base.raw", 8 * MIB)
    a = overlay(tmp_path / "a", base, 8 * MIB, {MIB: b"own" * 1000})
    b = overlay(tmp_path / "b", base, 8 * MIB, {MIB: b"own" * 1000})
    assert compare_tables(a, b, QCOW2) == ComparedTables(8 * MIB, (8 * MIB, 8 * MIB))
    assert sum(reads) == 2 * 4 * KIB


def test_the_base_of_siblings_is_not_even_asked_for_its_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = raw(tmp_path / "base.raw", MIB)
    a, b = (overlay(tmp_path / name, base, MIB, {0: b"own"}) for name in "ab")
    monkeypatch.setattr(RawOutline, "rows", lambda *_: pytest.fail("the common base was looked at"))
    assert compare_tables(a, b, QCOW2) == ComparedTables(MIB, (MIB, MIB))


def test_an_overlay_is_compared_with_its_own_base_where_it_holds_something(tmp_path: Path, reads: list[int]):
    base = raw(tmp_path / "base.raw", MIB)
    same = base.read_bytes()[8 * KIB : 12 * KIB]
    top = overlay(tmp_path / "top", base, MIB, {8 * KIB: same})
    assert (
        compare_tables(top, base, ("qcow2", "raw"))
        == compare_tables(base, top, ("raw", "qcow2"))
        == ComparedTables(MIB, (MIB, MIB))
    )
    assert sum(reads) == 4 * 4 * KIB


def test_behind_a_short_base_both_read_as_zeros(tmp_path: Path, reads: list[int]):
    base = raw(tmp_path / "base.raw", 64 * KIB)
    a, b = overlay(tmp_path / "a", base, MIB, {}), overlay(tmp_path / "b", base, 2 * MIB, {})
    found = compare_tables(a, b, QCOW2)
    assert found == ComparedTables(2 * MIB, (MIB, 2 * MIB))
    assert reads == []


def test_a_base_that_one_of_them_hides_behind_its_end_is_looked_at(tmp_path: Path):
    """The larger sibling sees bytes of the base where the smaller one has ended."""
    base = raw(tmp_path / "base.raw", 2 * MIB)
    a, b = overlay(tmp_path / "a", base, MIB, {}), overlay(tmp_path / "b", base, 2 * MIB, {})
    assert compare_tables(a, b, QCOW2) == ComparedTables(MIB, (MIB, 2 * MIB))


def test_the_doubt_begins_no_further_than_the_piece_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "_READ_BYTES", 64 * KIB)
    content = random.Random(1).randbytes(2 * MIB)
    (tmp_path / "a").write_bytes(content)
    for changed in (0, 1_000_000, 2 * MIB - 1):
        (tmp_path / "b").write_bytes(content[:changed] + bytes([content[changed] ^ 1]) + content[changed + 1 :])
        found = compare_tables(tmp_path / "a", tmp_path / "b", ("raw", "raw"))
        assert found is not None
        assert changed - 64 * KIB < found.equal_until <= changed


def test_pieces_are_read_in_groups_that_cut_them_where_need_be(tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "_READ_BYTES", 10 * KIB)
    a = overlay(tmp_path / "a", None, MIB, {n * 12 * KIB: bytes([n + 1]) * 4 * KIB for n in range(9)})
    b = overlay(tmp_path / "b", None, MIB, {n * 12 * KIB: bytes([n + 1]) * 4 * KIB for n in range(9)})
    assert compare_tables(a, b, QCOW2) == ComparedTables(MIB, (MIB, MIB))
    assert sorted(reads) == [6 * KIB] * 2 + [10 * KIB] * 6


def test_what_can_not_be_read_is_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a, b = raw(tmp_path / "a", 4 * MIB), raw(tmp_path / "b", 4 * MIB)
    original = HostFile.preadinto

    def failing(file: HostFile, offset: int, buffer: memoryview) -> None:
        if file.path == b and offset >= 2 * MIB:
            raise HostFileError(file.path, "read", OSError(5, "Input/output error"))
        original(file, offset, buffer)

    monkeypatch.setattr(HostFile, "preadinto", failing)
    assert compare_tables(a, b, ("raw", "raw")) == ComparedTables(2 * MIB, (4 * MIB, 4 * MIB))


def test_tables_that_are_not_plain_are_in_doubt_from_there_on(tmp_path: Path):
    reach = SMALL.reach
    window = 4 * KIB * outline._WINDOW_UNITS
    paths = [overlay(tmp_path / name, None, 3 * window, {0: b"x", window + reach: b"y"}) for name in "ab"]
    with open_disk(paths[0], writable=True) as disk:
        disk.write_compressed(2 * window, b"z" * 4 * KIB)
    assert compare_tables(*paths, QCOW2) == ComparedTables(2 * window, (3 * window, 3 * window))


def test_images_that_are_not_plain_are_left_to_others(tmp_path: Path):
    a = create_with_cowherd(tmp_path / "a", Features(extended_l2=True), MIB)
    assert compare_tables(a, a, QCOW2) is None


def test_one_file_as_two_formats_is_not_one_place(tmp_path: Path):
    path = overlay(tmp_path / "image", None, MIB, {0: b"x" * 1000})
    found = compare_tables(path, path, ("qcow2", "raw"))
    assert found is not None
    assert found.equal_until == 0


def test_the_same_place_in_one_file_needs_no_reading(tmp_path: Path, reads: list[int]):
    """One base as raw, and an image that QEMU would call another: the same file under another name."""
    base = raw(tmp_path / "base.raw", MIB)
    (tmp_path / "link.raw").symlink_to(base)
    middle = overlay(tmp_path / "middle", tmp_path / "link.raw", MIB, {})
    a = overlay(tmp_path / "a", middle, MIB, {})
    b = overlay(tmp_path / "b", base, MIB, {})
    assert compare_tables(a, b, QCOW2) == ComparedTables(MIB, (MIB, MIB))
    assert reads == []


def test_progress_rises_and_ends_at_the_larger_size(tmp_path: Path):
    a, b = raw(tmp_path / "a", 5 * MIB), raw(tmp_path / "b", 5 * MIB)
    calls: list[tuple[int, int]] = []
    compare_tables(a, b, ("raw", "raw"), progress=lambda *call: calls.append(call))
    assert calls == [(done * MIB, 5 * MIB) for done in range(6)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_ends_all_threads(tmp_path: Path, error: type[BaseException]):
    a, b = raw(tmp_path / "a", 40 * MIB), raw(tmp_path / "b", 40 * MIB)
    calls: list[int] = []

    def interrupting(done: int, _total: int) -> None:
        calls.append(done)
        if done >= 3 * MIB:
            raise error

    with pytest.raises(error):
        compare_tables(a, b, ("raw", "raw"), progress=interrupting)
    assert len(calls) < 12


def test_an_image_that_is_being_written_is_refused(tmp_path: Path):
    a, b = (overlay(tmp_path / name, None, MIB, {}) for name in "ab")
    with open_disk(b, writable=True), pytest.raises(ImageInUse):
        compare_tables(a, b, QCOW2)
