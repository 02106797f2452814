"""An opened disk: what the guest sees of a chain."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.errors import InvalidRequest, ReadOnlyImage
from cowherd.formats.qcow2 import cache
from cowherd.image import disk as disk_module
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from tests.images import KIB, MIB, Features, changed_by_cowherd, create_with_cowherd, workload
from tests.ops.chains import Chain, Member

Row = tuple[int, int, int, int, int]
SIZES = st.sampled_from([0, 512, 64 * KIB, 300 * KIB, 300 * KIB + 512, MIB])
FEATURES = st.sampled_from(
    [Features(512), Features(4 * KIB), Features(), Features(16 * KIB, extended_l2=True), Features(4 * KIB, version=2)]
)


def chain_of(directory: Path, members: Sequence[tuple[Features, int, int]]) -> Path:
    """Makes a chain from (features, size, seed), the root first; returns the top."""
    below = None
    for number, (features, size, seed) in enumerate(members):
        path = create_with_cowherd(directory / str(number), features, size, backing=below)
        if size:
            changed_by_cowherd(path, workload(seed, features, size, 6))
        below = path
    assert below is not None
    return below


def naive(disk: Disk, offset: int, depth: int) -> tuple[int, int, int]:
    """The (depth, kind, host) of one guest byte, found by asking each layer for that byte alone."""
    for number, layer in enumerate(disk.layers[:depth]):
        if offset >= layer.size:
            return number, ext.ZERO, ext.NOWHERE
        ((_, _, host, _, kind),) = layer.extents(offset, 1).tolist()
        if kind != ext.BACKING or number == depth - 1:
            return number, kind, host
    raise AssertionError("there is always a last layer")


@settings(max_examples=60)
@given(st.lists(st.tuples(FEATURES, SIZES, st.integers(0, 1000)), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_extents_cover_what_is_asked_as_a_byte_by_byte_look_does(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[Features, int, int]], generator: random.Random
):
    with open_disk(chain_of(tmp_path_factory.mktemp("disk"), members), format="qcow2") as disk:
        depth = generator.choice([None, *range(1, len(disk.layers) + 2)])
        start = generator.randint(0, disk.size)
        length = generator.choice([None, generator.randint(0, disk.size - start)])
        rows = [row for batch in disk.extents(start, length, depth=depth) for row in batch.tolist()]
        position = start
        layers = min(depth or len(disk.layers), len(disk.layers))
        for first, extent, host, where, kind in rows:
            assert first == position
            assert extent > 0
            for offset in {first, first + extent - 1, first + generator.randrange(extent)}:
                expected_host = host if host == ext.NOWHERE else host + offset - first
                assert (where, kind, expected_host) == naive(disk, offset, layers)
            position += extent
        assert position == (disk.size if length is None else start + length)


@settings(max_examples=40)
@given(st.lists(st.tuples(FEATURES, SIZES, st.integers(0, 1000)), min_size=1, max_size=4))
def test_reading_agrees_with_the_layers(tmp_path_factory: pytest.TempPathFactory, members: list[tuple[Features, int, int]]):
    top = chain_of(tmp_path_factory.mktemp("disk"), members)
    with open_disk(top, format="qcow2") as disk:
        whole = disk.read(0, disk.size)
        for batch in disk.extents():
            for start, length, host, depth, kind in batch.tolist():
                found = whole[start : start + length]
                if kind == ext.DATA:
                    assert found == disk.layers[depth].file.pread(host, length)
                elif kind != ext.COMPRESSED:
                    assert not any(found)
        for start in range(0, disk.size, 77777):
            length = min(100001, disk.size - start)
            assert disk.read(start, length) == whole[start : start + length]
            buffer = bytearray(length)
            disk.read_extents(ext.concat(list(disk.extents(start, length))), start, memoryview(buffer))
            assert buffer == whole[start : start + length]


@pytest.mark.parametrize("window", [4 * KIB, 64 * KIB, 96 * KIB])
def test_batches_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int):
    path = chain_of(tmp_path, [(Features(4 * KIB), MIB, 1), (Features(), MIB + 512, 2)])
    with open_disk(path, format="qcow2") as disk:
        whole = ext.concat(list(disk.extents()))
        monkeypatch.setattr(disk_module, "_WINDOW_UNITS", window // (4 * KIB))
        batches = list(disk.extents(1000))
        assert len(batches) > 3
        assert ext.concat(batches).tolist() == ext.clip(whole, 1000, disk.size).tolist()


def chain(directory: Path, *sizes: int) -> Path:
    """A chain whose images are full of their own letter: the root of "a"s, and empty ones on it."""
    path = create_with_cowherd(directory / "a", Features(), sizes[0])
    with open_disk(path, format="qcow2", writable=True) as disk:
        disk.write(0, b"a" * sizes[0])
    for number, size in enumerate(sizes[1:], 1):
        path = create_with_cowherd(directory / chr(97 + number), Features(4 * KIB), size, backing=path)
    return path


def test_behind_the_end_of_a_shorter_backing_file_are_zeros(tmp_path: Path):
    with open_disk(chain(tmp_path, 100 * KIB, MIB), format="qcow2") as disk:
        assert disk.read(0, MIB) == b"a" * (100 * KIB) + bytes(MIB - 100 * KIB)
        assert [row[:2] + row[3:] for batch in disk.extents() for row in batch.tolist()] == [
            (0, 100 * KIB, 1, ext.DATA),
            (100 * KIB, MIB - 100 * KIB, 1, ext.ZERO),
        ]


def test_a_shorter_image_in_the_middle_hides_the_one_under_it(tmp_path: Path):
    with open_disk(chain(tmp_path, MIB, 100 * KIB, MIB), format="qcow2") as disk:
        assert disk.read(0, MIB) == b"a" * (100 * KIB) + bytes(MIB - 100 * KIB)
    with open_disk(chain(tmp_path, MIB, 0, MIB), format="qcow2") as disk:
        assert disk.read(0, MIB) == bytes(MIB)


def test_an_overlay_shows_no_more_of_its_backing_file_than_its_size(tmp_path: Path):
    with open_disk(chain(tmp_path, MIB, 5 * 512), format="qcow2") as disk:
        assert disk.read(0, disk.size) == b"a" * (5 * 512)
        with pytest.raises(InvalidRequest):
            disk.read(0, disk.size + 1)


@pytest.mark.parametrize(
    "features", [Features(512), Features(), Features(16 * KIB, extended_l2=True), Features(version=2)], ids=str
)
def test_a_write_fills_its_cluster_from_the_backing_file(tmp_path: Path, features: Features):
    base = chain(tmp_path, 130 * KIB)
    top = create_with_cowherd(tmp_path / "top", features, MIB, backing=base)
    expected = bytearray(b"a" * (130 * KIB) + bytes(MIB - 130 * KIB))
    with open_disk(top, format="qcow2", writable=True) as disk:
        for offset, length in ((1000, 10), (129 * KIB, 2 * KIB), (200 * KIB, 1), (MIB - 1, 1)):
            disk.write(offset, b"t" * length)
            expected[offset : offset + length] = b"t" * length
        disk.zero(70 * KIB, 100)
        expected[70 * KIB : 70 * KIB + 100] = bytes(100)
        assert disk.read(0, MIB) == expected
    with open_disk(top, format="qcow2") as disk:
        assert disk.read(0, MIB) == expected


def test_several_threads_may_read_at_once(tmp_path: Path):
    path = chain_of(
        tmp_path, [(Features(4 * KIB), 4 * MIB, 1), (Features(), 4 * MIB, 2), (Features(16 * KIB, extended_l2=True), 4 * MIB, 3)]
    )
    failures: list[object] = []
    with open_disk(path, format="qcow2") as disk:
        whole = disk.read(0, disk.size)

        def read(seed: int) -> None:
            generator = random.Random(seed)
            for _ in range(60):
                start = generator.randrange(disk.size)
                length = min(generator.choice((512, 70000, 400000)), disk.size - start)
                if disk.read(start, length) != whole[start : start + length]:
                    failures.append((start, length))

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


CHANGES: tuple[Callable[[Disk], None], ...] = (
    lambda disk: disk.write(0, b"x"),
    lambda disk: disk.write_compressed(0, b"x" * 64 * KIB),
    lambda disk: disk.zero(0, 512),
    lambda disk: disk.discard(0, 64 * KIB),
    lambda disk: disk.resize(2 * MIB),
    lambda disk: disk.set_backing(None),
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_disk_opened_to_be_read_is_not_changed(tmp_path: Path, change: Callable[[Disk], None]):
    path = chain(tmp_path, MIB)
    before = path.read_bytes()
    with open_disk(path, format="qcow2") as disk, pytest.raises(ReadOnlyImage):
        change(disk)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, MIB + 1), (MIB, 1), (MIB + 1, 0), (0, -1), (1 << 70, 1)])
def test_ranges_that_are_not_inside_are_refused(tmp_path: Path, offset: int, length: int):
    with open_disk(chain(tmp_path, MIB), format="qcow2", writable=True) as disk:
        requests: list[Callable[[], object]] = [
            lambda: list(disk.extents(offset, length)),
            lambda: disk.zero(offset, length),
            lambda: disk.discard(offset, length),
        ]
        if length >= 0:
            requests += [lambda: disk.read(offset, length), lambda: disk.write(offset, bytes(length))]
        for request in requests:
            with pytest.raises(InvalidRequest):
                request()


def test_a_negative_length_is_not_read(tmp_path: Path):
    with open_disk(chain(tmp_path, MIB), format="qcow2") as disk, pytest.raises(InvalidRequest):
        disk.read(0, -1)


def test_requests_of_no_length_are_fine_up_to_the_end(tmp_path: Path):
    with open_disk(chain(tmp_path, MIB), format="qcow2", writable=True) as disk:
        for offset in (0, 1, MIB):
            assert disk.read(offset, 0) == b""
            assert list(disk.extents(offset, 0)) == []
            disk.write(offset, b"")
            disk.zero(offset, 0)
            disk.discard(offset, 0)


def test_a_disk_without_bytes(tmp_path: Path):
    with open_disk(chain(tmp_path, MIB, 0), format="qcow2", writable=True) as disk:
        assert disk.size == 0
        assert list(disk.extents()) == []
        assert disk.read(0, 0) == b""
        disk.resize(MIB)
        assert disk.read(0, MIB) == bytes(MIB)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("H")])
def test_any_buffer_may_be_written(tmp_path: Path, make: Callable[[bytes], bytes]):
    with open_disk(chain(tmp_path, MIB), format="qcow2", writable=True) as disk:
        disk.write(100, make(b"0123456789"))
        assert disk.read(99, 12) == b"a0123456789a"


def test_closing_twice_is_fine(tmp_path: Path):
    disk = open_disk(chain(tmp_path, MIB, MIB), format="qcow2", writable=True)
    disk.write(0, b"x")
    disk.close()
    disk.close()
    with open_disk(tmp_path / "b", format="qcow2") as again:
        assert again.read(0, 2) == b"xa"


def test_changes_are_in_the_file_after_a_flush(tmp_path: Path):
    path = chain(tmp_path, MIB, MIB)
    with open_disk(path, format="qcow2", writable=True) as disk:
        disk.write(0, b"x" * 100)
        disk.flush()
        with open_disk(path, format="qcow2", force_share=True) as other:
            assert other.read(0, 101) == b"x" * 100 + b"a"


def test_chains_of_several_formats(tmp_path: Path):
    made = Chain(
        tmp_path / "chain",
        Member("raw", MIB + 512, None),
        Member("zstd", 300 * KIB, Features(compression="zstd"), "raw"),
        Member("sub", 2 * MIB, Features(32 * KIB, extended_l2=True), "zstd"),
        Member("top", MIB, Features(512), "sub"),
    )
    for member in made.members:
        with open_disk(made[member.name], format=member.format) as disk:
            assert disk.read(0, disk.size) == made.content(member.name)


def test_a_chain_keeps_no_more_tables_than_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    below = None
    for number in range(20):
        below = create_with_cowherd(tmp_path / str(number), Features(), 300 * KIB, backing=below)
        with open_disk(below, format="qcow2", writable=True, backing=False) as disk:
            disk.write(0, bytes([number]))
    monkeypatch.setattr(cache, "CACHE_BYTES", 5 * 64 * KIB)
    with open_disk(below, format="qcow2") as disk:
        caches = {id(layer._tables.cache): layer._tables.cache for layer in disk.layers}
        assert disk.read(0, 1) == bytes([19])
        list(disk.extents())
        assert len(caches) == 1
        assert sum(len(one._tables) for one in caches.values()) == 5
