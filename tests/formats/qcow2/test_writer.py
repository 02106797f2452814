"""Guest requests: where they put things, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cowherd import extents as ext
from cowherd.errors import HostFileError, ImageCorrupt, InvalidRequest
from cowherd.formats.qcow2.image import Qcow2, open_qcow2
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB, Features, create_with_cowherd

CLUSTER = 64 * KIB
PLAIN = Features()
SUBCLUSTERS = Features(CLUSTER, extended_l2=True)


def opened(path: Path, features: Features = PLAIN, size: int = MIB, *, base: Path | None = None) -> Disk:
    """A new image, open for writing."""
    return open_disk(create_with_cowherd(path / "image.qcow2", features, size, backing=base), format="qcow2", writable=True)


def a_base(path: Path, size: int = MIB) -> Path:
    """An image full of b's."""
    base = create_with_cowherd(path / "base.qcow2", Features(), size)
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"b" * size)
    return base


def runs(disk: Disk) -> list[tuple[int, int, int]]:
    """(start, length, kind) of the top layer's extents."""
    found = np.concatenate(list(disk.extents(depth=1)))
    return list(zip(found["start"].tolist(), found["length"].tolist(), found["kind"].tolist(), strict=True))


def host_of(disk: Disk, guest: int) -> int:
    return int(next(disk.extents(guest, 1))["host"][0])


def size_of(disk: Disk) -> int:
    disk.flush()
    return disk.layers[0].file.size()


def qcow2(disk: Disk) -> Qcow2:
    layer = disk.layers[0]
    assert isinstance(layer, Qcow2)
    return layer


def test_a_write_maps_whole_clusters_only(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(CLUSTER + 100, b"x")
        assert runs(disk) == [
            (0, CLUSTER, ext.BACKING),
            (CLUSTER, CLUSTER, ext.DATA),
            (2 * CLUSTER, MIB - 2 * CLUSTER, ext.BACKING),
        ]


def test_a_write_to_subclusters_maps_those_only(tmp_path: Path):
    with opened(tmp_path, SUBCLUSTERS) as disk:
        disk.write(CLUSTER + 2 * KIB, b"x")
        assert [run for run in runs(disk) if run[2] == ext.DATA] == [(CLUSTER + 2 * KIB, 2 * KIB, ext.DATA)]


def test_one_long_write_goes_to_adjacent_clusters(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(0, b"x" * MIB)
        assert runs(disk) == [(0, MIB, ext.DATA)]


def test_a_second_write_stays_in_place(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(0, b"x" * MIB)
        before = host_of(disk, 5 * CLUSTER), size_of(disk)
        disk.write(5 * CLUSTER + 1, b"y" * CLUSTER)
        assert (host_of(disk, 5 * CLUSTER), size_of(disk)) == before


@pytest.mark.parametrize("features", [Features(), SUBCLUSTERS], ids=str)
def test_the_rest_of_a_new_unit_comes_from_the_base(features: Features, tmp_path: Path):
    with opened(tmp_path, features, base=a_base(tmp_path)) as disk:
        disk.write(CLUSTER + 1000, b"x" * 5000)
        assert disk.read(0, MIB) == b"b" * (CLUSTER + 1000) + b"x" * 5000 + b"b" * (MIB - CLUSTER - 6000)


def test_the_rest_of_a_compressed_cluster_is_kept(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write_compressed(0, b"c" * CLUSTER)
        disk.write(100, b"x")
        assert disk.read(0, CLUSTER) == b"c" * 100 + b"x" + b"c" * (CLUSTER - 101)


def test_a_place_kept_for_a_zero_cluster_is_used(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(0, b"x" * CLUSTER)
        host = host_of(disk, 0)
        disk.zero(0, CLUSTER, unmap=False)
        disk.write(10, b"y")
        assert host_of(disk, 0) == host
        assert disk.read(0, CLUSTER) == bytes(10) + b"y" + bytes(CLUSTER - 11)


def test_zero_keeps_the_place_unless_it_may_unmap(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(0, b"x" * 2 * CLUSTER)
        host = host_of(disk, 0)
        disk.zero(0, CLUSTER, unmap=False)
        disk.zero(CLUSTER, CLUSTER, unmap=True)
        assert [host_of(disk, 0), host_of(disk, CLUSTER)] == [host, ext.NOWHERE]
        assert disk.read(0, 2 * CLUSTER) == bytes(2 * CLUSTER)


def test_zero_of_what_reads_as_zeros_writes_no_data(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.zero(100, 5000)
        assert runs(disk) == [(0, MIB, ext.BACKING)]


def test_zero_of_a_part_of_a_cluster_hides_the_base(tmp_path: Path):
    with opened(tmp_path, base=a_base(tmp_path)) as disk:
        disk.zero(100, 5000)
        assert disk.read(0, CLUSTER) == b"b" * 100 + bytes(5000) + b"b" * (CLUSTER - 5100)


def test_zero_up_to_the_end_needs_no_data_in_the_last_cluster(tmp_path: Path):
    with opened(tmp_path, size=2 * CLUSTER + 512, base=a_base(tmp_path)) as disk:
        disk.zero(CLUSTER, CLUSTER + 512)
        assert runs(disk)[1] == (CLUSTER, CLUSTER + 512, ext.ZERO)


def test_zero_of_subclusters_stays_in_the_tables(tmp_path: Path):
    with opened(tmp_path, SUBCLUSTERS) as disk:
        disk.write(0, b"x" * CLUSTER)
        disk.zero(4 * KIB, 6 * KIB)
        assert runs(disk)[:3] == [(0, 4 * KIB, ext.DATA), (4 * KIB, 6 * KIB, ext.ZERO), (10 * KIB, CLUSTER - 10 * KIB, ext.DATA)]


def test_version_2_hides_its_base_by_writing_zeros(tmp_path: Path):
    with opened(tmp_path, Features(version=2), base=a_base(tmp_path)) as disk:
        disk.zero(0, 2 * CLUSTER)
        assert disk.read(0, 3 * CLUSTER) == bytes(2 * CLUSTER) + b"b" * CLUSTER
        assert runs(disk)[0] == (0, 2 * CLUSTER, ext.DATA)


def test_discard_makes_whole_clusters_zero_and_leaves_the_rest(tmp_path: Path):
    with opened(tmp_path, base=a_base(tmp_path)) as disk:
        disk.write(0, b"x" * 4 * CLUSTER)
        disk.discard(100, 3 * CLUSTER)
        assert disk.read(0, 4 * CLUSTER) == b"x" * CLUSTER + bytes(2 * CLUSTER) + b"x" * CLUSTER


def test_discard_by_version_2_never_shows_the_base(tmp_path: Path):
    with opened(tmp_path, Features(version=2), base=a_base(tmp_path)) as disk:
        disk.write(0, b"x" * MIB)
        disk.discard(0, MIB)
        assert disk.read(0, MIB) == b"x" * MIB


def test_discarded_space_goes_back_to_the_host_with_the_next_flush(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(0, b"x" * MIB)
        disk.flush()
        before = qcow2(disk).file.allocated_bytes()
        disk.discard(0, MIB)
        disk.flush()
        assert qcow2(disk).file.allocated_bytes() <= before - MIB


def test_discarded_space_is_used_again_after_a_flush(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(0, b"x" * MIB)
        before = size_of(disk)
        disk.discard(0, MIB)
        disk.flush()
        disk.write(0, b"y" * MIB)
        assert size_of(disk) == before


def test_what_a_durable_table_shows_is_not_overwritten_before_the_flush(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write(0, b"x" * CLUSTER)
        disk.flush()
        host = host_of(disk, 0)
        disk.discard(0, CLUSTER)
        disk.write(5 * CLUSTER, b"y" * CLUSTER)
        assert host_of(disk, 5 * CLUSTER) != host
        assert qcow2(disk).file.pread(host, CLUSTER) == b"x" * CLUSTER


def test_compressed_clusters_share_host_clusters(tmp_path: Path):
    with opened(tmp_path) as disk:
        before = size_of(disk)
        for guest in range(0, MIB, CLUSTER):
            disk.write_compressed(guest, b"c" * CLUSTER)
        assert size_of(disk) <= before + 2 * CLUSTER  # the data and the L2 table
        assert disk.read(0, MIB) == b"c" * MIB


def test_what_does_not_shrink_is_not_compressed(tmp_path: Path):
    noise = np.random.default_rng(1).bytes(CLUSTER)
    with opened(tmp_path) as disk:
        disk.write_compressed(0, noise)
        assert runs(disk)[0] == (0, CLUSTER, ext.DATA)
        assert disk.read(0, CLUSTER) == noise


def test_compressed_data_is_not_put_behind_data_that_was_given_back(tmp_path: Path):
    with opened(tmp_path) as disk:
        disk.write_compressed(0, b"c" * CLUSTER)
        disk.discard(0, CLUSTER)
        disk.flush()
        disk.write(5 * CLUSTER, b"x" * CLUSTER)  # takes the host cluster that was given back
        disk.write_compressed(0, b"d" * CLUSTER)
        assert disk.read(5 * CLUSTER, CLUSTER) == b"x" * CLUSTER


@pytest.mark.parametrize(("offset", "length"), [(512, CLUSTER), (0, CLUSTER - 512), (0, 100)])
def test_compressed_writes_cover_whole_clusters(offset: int, length: int, tmp_path: Path):
    with opened(tmp_path) as disk, pytest.raises(InvalidRequest, match="whole clusters"):
        disk.write_compressed(offset, b"c" * length)


def test_emptying_an_image_shows_its_base_and_gives_everything_back(tmp_path: Path):
    base = a_base(tmp_path)
    with opened(tmp_path, base=base) as disk:
        disk.write(0, b"x" * MIB)
        qcow2(disk).deallocate_all()
        assert disk.read(0, MIB) == b"b" * MIB
        disk.flush()
        assert qcow2(disk)._tables.l1.tolist() == [0]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with opened(tmp_path, base=a_base(tmp_path)) as disk:

        def full(file: HostFile, offset: int, buffers: object) -> None:
            raise HostFileError(file.path, "write", OSError(28, "No space left on device"))

        with monkeypatch.context() as patch:
            patch.setattr(HostFile, "pwritev", full)
            with pytest.raises(HostFileError, match="No space left"):
                disk.write(0, b"x" * 3 * CLUSTER)
        assert disk.read(0, MIB) == b"b" * MIB
        free = qcow2(disk)._changer().metadata.refcounts.allocate(1)[0]
        assert qcow2(disk)._changer().metadata.refcounts.count(free + 1) == 0


@pytest.mark.parametrize("reads_as_zeros", [0, 1])
def test_a_guest_cluster_on_top_of_a_table_is_not_written(tmp_path: Path, reads_as_zeros: int):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), MIB)
    with open_disk(path, writable=True) as disk:
        disk.write(0, b"x" * CLUSTER)
        l2 = qcow2(disk)._tables.l2_offset(0)
        l1 = qcow2(disk).header.l1_table_offset
    with path.open("r+b") as file:
        file.seek(l2)
        file.write((l1 | 1 << 63 | reads_as_zeros).to_bytes(8, "big"))
    before = path.read_bytes()
    for data in (b"y", b"y" * CLUSTER, b"y" * 3 * CLUSTER):
        with open_qcow2(path, writable=True) as image, pytest.raises(ImageCorrupt, match="overlaps"):
            image.write(0, memoryview(data), None)
    assert path.read_bytes()[l1 : l1 + CLUSTER] == before[l1 : l1 + CLUSTER]


@pytest.mark.parametrize("features", [PLAIN, SUBCLUSTERS], ids=str)
def test_one_cluster_is_judged_as_many_are(tmp_path: Path, features: Features):
    """A request inside one cluster is answered without arrays; the answer must be that of the arrays."""
    with opened(tmp_path, features) as disk:
        disk.write(0, b"x" * (3 * CLUSTER))
        disk.write(5 * CLUSTER, b"x" * 512)
        disk.zero(CLUSTER, CLUSTER, unmap=False)
        disk.write_compressed(7 * CLUSTER, b"c" * CLUSTER)
        disk.zero(8 * CLUSTER, CLUSTER)
        writer = qcow2(disk)._writer
        assert writer is not None
        together = {
            cluster: (run.in_place, run.complete)
            for run in writer._runs(0, 0, 10, 0, 10 * CLUSTER)
            for cluster in range(run.first, run.last)
        }
        alone = {}
        for cluster in range(10):
            (run,) = writer._runs(0, cluster, cluster + 1, cluster * CLUSTER, (cluster + 1) * CLUSTER)
            assert (run.first, run.last) == (cluster, cluster + 1)
            alone[cluster] = run.in_place, run.complete
        assert alone == together
        assert {True, False} == {in_place for in_place, _ in alone.values()}
        assert any(in_place and not complete for in_place, complete in alone.values())
