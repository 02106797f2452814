"""Snapshots as disks: what each shows is what QEMU reads once it is applied."""

from __future__ import annotations

import random

import pytest

from cowherd import extents
from cowherd.image.open import open_disk
from cowherd.image.snapshots import snapshot_disk, snapshots_of
from tests.snapshots import MIB, Chance, all_shown, names_of, qemu_img, qemu_io, save_machine, shown, shown_unapplied

pytestmark = pytest.mark.qemu("qemu-io")


def shown_by_cowherd(image) -> dict[str, bytes]:
    with open_disk(image, format="qcow2") as disk:
        found = {one.name: snapshot_disk(disk.layers, one) for one in snapshots_of(disk.layers[0])}
        return {name: snapshot.read(0, snapshot.size) for name, snapshot in found.items()}


@pytest.mark.parametrize("seed", range(8))
def test_each_shows_what_qemu_reads_once_it_is_applied(tmp_path, seed):
    *_, top = Chance(random.Random(seed)).chain(tmp_path, "abc")
    found = shown_by_cowherd(top)
    assert list(found) == names_of(top)
    assert found == all_shown(top)


def test_the_machine_saved_with_a_snapshot_is_no_part_of_its_disk(tmp_path):
    image = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", image, MIB)
    qemu_io("-f", "qcow2", "-c", "write -P 1 0 64k", image)
    save_machine(image, "running")
    qemu_io("-f", "qcow2", "-c", "write -P 2 0 64k", image)
    assert shown_by_cowherd(image) == {"running": shown(image, "running")} == {"running": shown_unapplied(image, "running")}
    with open_disk(image, format="qcow2") as disk:
        (snapshot,) = snapshots_of(disk.layers[0])
        assert snapshot.vm_state_size > 0
        stored = [extents.of_kind(batch, extents.DATA) for batch in snapshot_disk(disk.layers, snapshot).extents()]
        assert [(int(one["start"][0]), int(one["length"][0])) for one in stored] == [(0, 65536)]


def test_what_is_written_to_the_open_disk_does_not_show(tmp_path):
    image = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", image, MIB)
    qemu_io("-f", "qcow2", "-c", "write -P 1 0 1M", image)
    qemu_img("snapshot", "-c", "before", image)
    with open_disk(image, format="qcow2", writable=True) as disk:
        (snapshot,) = snapshots_of(disk.layers[0])
        before = snapshot_disk(disk.layers, snapshot)
        disk.write(0, b"x" * 300_000)
        assert before.read(0, MIB) == b"\1" * MIB


def test_a_raw_image_has_none(tmp_path):
    (tmp_path / "disk.raw").write_bytes(bytes(MIB))
    with open_disk(tmp_path / "disk.raw", format="raw") as disk:
        assert snapshots_of(disk.layers[0]) == ()
