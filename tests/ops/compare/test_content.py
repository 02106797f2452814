"""Where images begin to differ: never too late, and what need not be read is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageFormatError, ImageInUse
from cowherd.formats.outline import RawOutline
from cowherd.image import reading
from cowherd.image.open import open_disk
from cowherd.image.reading import Reading, open_reading
from cowherd.kinds import Row
from cowherd.ops.compare import content
from cowherd.ops.compare.comparison import ReadFailed
from cowherd.ops.compare.content import first_difference
from cowherd.progress import Progress
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import Damager
from tests.images import KIB, MIB, Features, changed_by_cowherd, create_with_cowherd, workload

PLAIN = ("write", "zero", "unmap", "discard")
QCOW2 = ("qcow2", "qcow2")
SMALL = Features(4 * KIB)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each reading, as they happen."""
    found: list[int] = []
    original = Reading.read

    def read(chain: Reading, rows: list[Row], buffer: memoryview) -> None:
        found.append(len(buffer))
        original(chain, rows, buffer)

    monkeypatch.setattr(Reading, "read", read)
    return found


def difference(
    a: Path, b: Path, formats: tuple[str, str] = QCOW2, *, arrays: bool = False, progress: Progress | None = None
) -> int | None:
    with open_reading(a, format=formats[0]) as first, open_reading(b, format=formats[1]) as second:
        if arrays:
            first.disk()
            second.disk()
        return first_difference(first, second, max(first.size, second.size), progress)


def overlay(path: Path, base: Path | None, size: int, writes: dict[int, bytes], features: Features = SMALL) -> Path:
    create_with_cowherd(path, features, size, backing=base, backing_format="raw" if base and base.suffix == ".raw" else "qcow2")
    with open_disk(path, format="qcow2", writable=True) as disk:
        for offset, data in writes.items():
            disk.write(offset, data)
    return path


def raw(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


@pytest.mark.parametrize("arrays", [False, True], ids=["plain", "arrays"])
@pytest.mark.parametrize("seed", range(12))
def test_random_chains_differ_where_their_bytes_do(tmp_path: Path, seed: int, arrays: bool):
    """Siblings of one base, written to alike but for the last requests, and of sizes that may differ."""
    choose = random.Random(seed)
    base = raw(tmp_path / "base.raw", choose.choice((MIB, 600 * KIB)))
    sizes = [choose.choice((MIB, MIB + 512, 300 * KIB)) for _ in "ab"]
    requests = workload(seed, SMALL, min(sizes), 10, PLAIN)
    paths = [overlay(tmp_path / name, base, size, {}) for name, size in zip("ab", sizes, strict=True)]
    changed_by_cowherd(paths[0], requests)
    changed_by_cowherd(paths[1], requests[: choose.choice((10, 9, 7))])
    with open_disk(paths[0]) as a, open_disk(paths[1]) as b:
        left, right = (disk.read(0, disk.size).ljust(max(sizes), b"\0") for disk in (a, b))
    sectors = range(0, max(sizes), 512)
    expected = next((start for start in sectors if left[start : start + 512] != right[start : start + 512]), None)
    assert difference(*paths, arrays=arrays) == expected


def test_of_siblings_only_what_they_hold_themselves_is_read(tmp_path: Path, reads: list[int]):
    base = raw(tmp_path / "base.raw", 8 * MIB)
    a = overlay(tmp_path / "a", base, 8 * MIB, {MIB: b"own" * 1000})
    b = overlay(tmp_path / "b", base, 8 * MIB, {MIB: b"own" * 1000})
    assert difference(a, b) is None
    assert sum(reads) == 2 * 4 * KIB


def test_the_base_of_siblings_is_not_even_asked_for_its_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = raw(tmp_path / "base.raw", MIB)
    a, b = (overlay(tmp_path / name, base, MIB, {0: b"own"}) for name in "ab")
    monkeypatch.setattr(RawOutline, "rows", lambda *_: pytest.fail("the common base was looked at"))
    assert difference(a, b) is None


def test_an_overlay_is_compared_with_its_own_base_where_it_holds_something(tmp_path: Path, reads: list[int]):
    base = raw(tmp_path / "base.raw", MIB)
    same = base.read_bytes()[8 * KIB : 12 * KIB]
    top = overlay(tmp_path / "top", base, MIB, {8 * KIB: same})
    assert difference(top, base, ("qcow2", "raw")) is difference(base, top, ("raw", "qcow2")) is None
    assert sum(reads) == 4 * 4 * KIB


def test_behind_a_short_base_both_read_as_zeros(tmp_path: Path, reads: list[int]):
    base = raw(tmp_path / "base.raw", 64 * KIB)
    a, b = overlay(tmp_path / "a", base, MIB, {}), overlay(tmp_path / "b", base, 2 * MIB, {})
    assert difference(a, b) is None
    assert reads == []


def test_a_base_that_one_of_them_hides_behind_its_end_is_looked_at(tmp_path: Path):
    """The larger sibling sees bytes of the base where the smaller one has ended."""
    base = raw(tmp_path / "base.raw", 2 * MIB)
    a, b = overlay(tmp_path / "a", base, MIB, {}), overlay(tmp_path / "b", base, 2 * MIB, {})
    assert difference(a, b) == MIB


def test_the_lowest_of_several_differences_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(content, "_READ_BYTES", 64 * KIB)
    data = random.Random(1).randbytes(2 * MIB)
    (tmp_path / "a").write_bytes(data)
    for changed in (0, 1_000_000, 2 * MIB - 1):
        other = bytearray(data)
        for place in {changed, min(changed + 7, 2 * MIB - 1), max(changed, 1_500_000), 2 * MIB - 1}:
            other[place] ^= 1
        (tmp_path / "b").write_bytes(other)
        assert difference(tmp_path / "a", tmp_path / "b", ("raw", "raw")) == changed // 512 * 512


def test_pieces_are_read_in_groups_that_cut_them_where_need_be(tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(content, "_READ_BYTES", 10 * KIB)
    a = overlay(tmp_path / "a", None, MIB, {n * 12 * KIB: bytes([n + 1]) * 4 * KIB for n in range(9)})
    b = overlay(tmp_path / "b", None, MIB, {n * 12 * KIB: bytes([n + 1]) * 4 * KIB for n in range(9)})
    assert difference(a, b) is None
    assert sorted(reads) == [6 * KIB] * 2 + [10 * KIB] * 6


def test_what_can_not_be_read_is_told_unless_there_is_a_difference_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a, b = raw(tmp_path / "a", 4 * MIB), raw(tmp_path / "b", 4 * MIB)
    original = HostFile.preadinto

    def failing(file: HostFile, offset: int, buffer: memoryview) -> None:
        if file.path == b and offset >= 2 * MIB:
            raise HostFileError(file.path, "read", OSError(5, "Input/output error"))
        original(file, offset, buffer)

    monkeypatch.setattr(HostFile, "preadinto", failing)
    with pytest.raises(ReadFailed, match=f"offset {2 * MIB} of"):
        difference(a, b, ("raw", "raw"))
    with a.open("r+b") as file:
        file.seek(MIB + 5000)
        file.write(b"changed")
    assert difference(a, b, ("raw", "raw")) == MIB + 4608


def test_it_goes_on_with_arrays_where_tables_are_too_many(tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "_MOST_ENTRIES", 1)
    window = 4 * KIB * reading._WINDOW_UNITS
    writes = {0: b"x" * 8 * KIB, 2 * window: b"y"}
    a, b = (overlay(tmp_path / name, None, 3 * window, writes) for name in "ab")
    with open_reading(a) as first, open_reading(b) as second:
        assert first_difference(first, second, first.size) is None
        assert first._disk is not None
        assert second._disk is not None
    assert sorted(reads) == [4 * KIB] * 2 + [8 * KIB] * 2
    with open_disk(b, writable=True) as disk:
        disk.write(2 * window + 700, b"other")
    assert difference(a, b) == 2 * window + 512


def test_a_table_that_breaks_the_specification_is_told_unless_there_is_a_difference_before(tmp_path: Path):
    window = 4 * KIB * reading._WINDOW_UNITS
    a, b = (overlay(tmp_path / name, None, 3 * window, {0: b"x", 2 * window: b"y"}) for name in "ab")
    damager = Damager(b)
    entry = damager.l2(0, table=2 * window // (2 * MIB))
    damager.put(entry, damager.word(entry) | 512)
    with pytest.raises(ImageFormatError):
        difference(a, b)
    with open_disk(a, writable=True) as disk:
        disk.write(1024, b"z")
    assert difference(a, b) == 1024


def test_compressed_clusters_are_compared(tmp_path: Path):
    a, b = (overlay(tmp_path / name, None, MIB, {0: b"x" * 4 * KIB}) for name in "ab")
    with open_disk(a, writable=True) as disk:
        disk.write_compressed(0, b"x" * 4 * KIB)
        disk.write_compressed(64 * KIB, b"y" * 4 * KIB)
    assert difference(a, b) == 64 * KIB
    with open_disk(b, writable=True) as disk:
        disk.write(64 * KIB, b"y" * 4 * KIB)
    assert difference(a, b) is None


def test_one_file_as_two_formats_is_not_one_place(tmp_path: Path):
    path = overlay(tmp_path / "image", None, MIB, {0: b"x" * 1000})
    assert difference(path, path, ("qcow2", "raw")) == 0


def test_the_same_place_in_one_file_needs_no_reading(tmp_path: Path, reads: list[int]):
    """One base as raw, and an image that QEMU would call another: the same file under another name."""
    base = raw(tmp_path / "base.raw", MIB)
    (tmp_path / "link.raw").symlink_to(base)
    middle = overlay(tmp_path / "middle", tmp_path / "link.raw", MIB, {})
    a = overlay(tmp_path / "a", middle, MIB, {})
    b = overlay(tmp_path / "b", base, MIB, {})
    assert difference(a, b) is None
    assert reads == []


def test_progress_rises_and_ends_at_the_larger_size(tmp_path: Path):
    a, b = raw(tmp_path / "a", 5 * MIB), raw(tmp_path / "b", 5 * MIB)
    calls: list[tuple[int, int]] = []
    difference(a, b, ("raw", "raw"), progress=lambda *call: calls.append(call))
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
        difference(a, b, ("raw", "raw"), progress=interrupting)
    assert len(calls) < 12


def test_an_image_that_is_being_written_is_refused(tmp_path: Path):
    a, b = (overlay(tmp_path / name, None, MIB, {}) for name in "ab")
    with open_disk(b, writable=True), pytest.raises(ImageInUse):
        difference(a, b)
