"""What may be trusted for ever, beside what QEMU's check and QEMU's reading say."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cowherd.errors import ImageInUse, UnsupportedFeature
from cowherd.formats.qcow2 import layout
from cowherd.image.open import open_disk
from cowherd.ops.inspect import soundness
from cowherd.ops.inspect.soundness import NotSound, require_sound
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.formats.qcow2.damaging import Damager
from tests.herd.qemu_herd import content, make_base, noise, qemu_img, qemu_io, write
from tests.images import TELLING, Features, create_with_qemu, examples, run_in_qemu, workload

pytestmark = pytest.mark.qemu("qemu-io")

KIB, MIB = 1 << 10, 1 << 20


def problem(path: Path, format: str = "qcow2", **options) -> str | None:
    """What is wrong with an image; None if nothing is."""
    try:
        require_sound(path, format, action="seal", **options)
    except NotSound as error:
        return error.problem
    return None


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base.qcow2", noise(MIB))


@pytest.mark.parametrize("tables", [True, False], ids=["all", "read"])
@pytest.mark.parametrize("features", TELLING, ids=str)
def test_what_qemu_writes_is_sound(tmp_path: Path, features: Features, tables: bool):
    image = create_with_qemu(tmp_path / "image.qcow2", features, features.odd_size)
    assert problem(image, tables=tables) is None
    run_in_qemu(image, workload(7, features, features.odd_size), features)
    assert problem(image, tables=tables) is None


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster_size", ["4k", "64k", "2M"])
def test_compressed_images_are_sound_also_where_the_file_ends_inside_a_sector(tmp_path, compression, cluster_size):
    options = f"compression_type={compression},cluster_size={cluster_size}"
    image = make_base(tmp_path / "packed.qcow2", b"packed" * (MIB // 2), "-c", "-o", options)
    assert problem(image) is None
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, tmp_path / "written.qcow2", "8M")
    write(tmp_path / "written.qcow2", "write -c -P 5 4M 2M", "write -P 5 0 512", "write -c -P 6 6M 2M")
    assert problem(tmp_path / "written.qcow2") is None
    assert problem(tmp_path / "written.qcow2", tables=False) is None


@pytest.mark.parametrize("preallocation", ["off", "metadata", "falloc", "full"])
def test_preallocated_and_empty_images_are_sound(tmp_path, preallocation):
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"preallocation={preallocation}", tmp_path / "image", "9M")
    assert problem(tmp_path / "image") is None


def test_snapshots_bitmaps_and_encryption_are_sound(tmp_path):
    image = make_base(tmp_path / "base.qcow2", noise(MIB))
    qemu_img("snapshot", "-c", "one", image)
    write(image, "write -P 1 0 128k")
    qemu_img("bitmap", "--add", "-f", "qcow2", image, "changes")
    assert problem(image) is None
    secret = ("--object", "secret,id=key,data=secret")
    luks = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    qemu_img("create", "-q", *secret, "-f", "qcow2", "-o", luks, tmp_path / "locked.qcow2", "1M")
    assert problem(tmp_path / "locked.qcow2") is None


def test_an_image_with_an_external_data_file_is_sound(tmp_path):
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", tmp_path / "image", "4M")
    write(tmp_path / "image", "write -P 1 3M 1M")
    assert problem(tmp_path / "image") is None


def test_an_image_that_was_not_closed_is_sound_unless_its_tables_are_wrong(tmp_path):
    image = tmp_path / "lazy.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", image, "1M")
    Damager(image).put(72, layout.INCOMPATIBLE_DIRTY)
    assert problem(image) is None
    qemu_io("-f", "qcow2", "-c", "write -P 1 0 64k", "-c", "abort", image, codes=(-6, 134))
    assert "was not closed" in (problem(image) or "")
    qemu_img("check", "-q", "-r", "all", image, codes=(0, 3))
    assert problem(image) is None


def test_leaked_clusters_harm_nobody(base):
    damager = Damager(base)
    damager.set_refcount(damager.cluster_of(damager.l2(3)), 1)
    damager.put(damager.l2(3), 0)
    qemu_img("check", "-q", base, codes=(3,))
    assert problem(base) is None


def test_what_qemu_calls_a_corruption_is_refused(base):
    damager = Damager(base)
    damager.put(damager.l2(3), damager.word(damager.l2(4)))
    qemu_img("check", "-q", base, codes=(2,))
    assert "is damaged" in (problem(base) or "")


def test_an_image_that_is_marked_corrupt_is_refused(base):
    Damager(base).put(72, layout.INCOMPATIBLE_CORRUPT)
    assert "marked corrupt" in (problem(base) or "")


@pytest.mark.parametrize("tables", [True, False], ids=["all", "read"])
@pytest.mark.parametrize("length", [40, 600, 64 * KIB, 200 * KIB, 327_700, MIB, MIB + 100])
def test_a_download_that_stopped_is_refused(base, length, tables):
    os.truncate(base, length)
    assert problem(base, tables=tables)


def test_a_table_that_leads_behind_the_file_is_refused_without_numpy_too(base):
    damager = Damager(base)
    damager.put(damager.l2(3), 1 << 40 | layout.COPIED)
    assert "cut off" in (problem(base, tables=False) or "")


def test_the_tables_of_snapshots_count(base):
    qemu_img("snapshot", "-c", "one", base)
    write(base, "write -P 1 0 1M")
    damager = Damager(base)
    place = damager.word(damager.header.snapshots_offset)
    damager.put(place, damager.word(place) & layout.COPIED | (base.stat().st_size - 512) // 65536 * 65536 + (1 << 30))
    assert problem(base)


def packed_base(path: Path, compression: str) -> Path:
    return make_base(path, (noise(3000, 1) + bytes(500)) * 300, "-c", "-o", f"compression_type={compression}")


def plain_base(path: Path, options: str) -> Path:
    return make_base(path, noise(MIB + 12_800), "-o", options)


def with_snapshot(path: Path) -> Path:
    make_base(path, noise(MIB))
    qemu_img("snapshot", "-c", "one", path)
    write(path, "write -P 1 0 300k")
    return path


MAKERS = {
    "plain": lambda path: plain_base(path, "cluster_size=64k"),
    "small": lambda path: plain_base(path, "cluster_size=512"),
    "old": lambda path: plain_base(path, "compat=0.10"),
    "subclusters": lambda path: plain_base(path, "extended_l2=on"),
    "zlib": lambda path: packed_base(path, "zlib"),
    "zstd": lambda path: packed_base(path, "zstd"),
    "snapshot": with_snapshot,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, tuple[bytes, bytes]]:
    """Images of each kind, and what the guest sees in them."""
    folder = tmp_path_factory.mktemp("originals")
    made = {kind: make(folder / kind) for kind, make in MAKERS.items()}
    return {kind: (path.read_bytes(), content(path)) for kind, path in made.items()}


@pytest.mark.parametrize("tables", [True, False], ids=["all", "read"])
@pytest.mark.parametrize("kind", MAKERS)
@settings(
    max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(place=st.integers(0, 1 << 40), near_end=st.booleans())
def test_what_is_cut_anywhere_is_refused_or_shows_the_same(tmp_path, originals, kind, tables, place, near_end):
    """The property that a seal needs: nothing is trusted that shows less than it did."""
    whole, guest = originals[kind]
    length = len(whole) - 1 - place % (2000 if near_end else len(whole))
    path = tmp_path / "cut.qcow2"
    path.write_bytes(whole[:length])
    if problem(path, tables=tables) is None:
        assert content(path) == guest
        if tables:
            qemu_img("check", "-q", path)


def test_a_cut_inside_the_last_compressed_cluster_is_refused(tmp_path, originals):
    for kind in ("zlib", "zstd"):
        whole, _ = originals[kind]
        path = tmp_path / kind
        end = len(whole.rstrip(b"\0"))
        path.write_bytes(whole[: end - 20])
        assert "cut off" in (problem(path) or "")


def test_images_of_many_tables_are_judged_the_same(tmp_path, monkeypatch, originals):
    monkeypatch.setattr(soundness, "_FEW_TABLES", 0)
    for kind, (whole, _) in originals.items():
        path = tmp_path / kind
        path.write_bytes(whole)
        assert problem(path, tables=False) is None
        path.write_bytes(whole[: len(whole.rstrip(b"\0")) - 700])
        assert problem(path, tables=False)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty"),
        (gzip.compress(noise(5000)), "gzip"),
        (b"<html><body>404</body></html>", "HTML"),
        (b"404: Not Found", "text"),
        (bytes(1000) + noise(1000), "qcow2"),
    ],
)
def test_what_is_no_image_is_refused_with_what_it_is(tmp_path, data, name):
    path = tmp_path / "base.qcow2"
    path.write_bytes(data)
    assert name in (problem(path, "raw") or "")


@pytest.mark.parametrize("name", ["base.vmdk", "BASE.QCOW2", "base.vdi", "base.vhdx", "base.vhd", "base.qed"])
def test_a_name_that_speaks_of_a_format_is_held_against_the_content(tmp_path, name):
    (tmp_path / name).write_bytes(noise(2048))
    assert "its name speaks of" in (problem(tmp_path / name, "raw") or "")
    assert problem(tmp_path / name, "raw", recorded=True) is None


@pytest.mark.parametrize("name", ["base.raw", "base.img", "base", "disk-flat.vmdk", "disk-f001.vmdk", "debian.qcow2.d"])
@pytest.mark.parametrize("size", [512, 1000, 1])
def test_a_raw_disk_is_sound_whatever_its_length(tmp_path, name, size):
    (tmp_path / name).write_bytes(noise(size, 3))
    assert problem(tmp_path / name, "raw") is None


def test_a_fixed_vhd_may_be_called_one(tmp_path):
    qemu_img("create", "-q", "-f", "vpc", "-o", "subformat=fixed", tmp_path / "fixed.vhd", "1M")
    assert problem(tmp_path / "fixed.vhd", "raw") is None


def test_who_states_that_a_disk_is_raw_is_believed_unless_it_is_empty(tmp_path):
    (tmp_path / "disk.qcow2").write_bytes(gzip.compress(noise(5000)))
    assert problem(tmp_path / "disk.qcow2", "raw", stated=True) is None
    (tmp_path / "disk.qcow2").write_bytes(b"")
    assert problem(tmp_path / "disk.qcow2", "raw", stated=True)


def test_a_qcow2_disk_of_no_bytes_is_refused(tmp_path):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "none.qcow2", "0")
    assert "no bytes" in (problem(tmp_path / "none.qcow2") or "")


def test_an_unknown_feature_is_no_damage(base):
    Damager(base).put(72, 1 << 40)
    with pytest.raises(UnsupportedFeature):
        require_sound(base, "qcow2", action="seal")


def test_an_image_that_a_machine_writes_to_is_in_use(base):
    with HostFile.open(base, writable=True, lock=WRITE), pytest.raises(ImageInUse):
        require_sound(base, "qcow2", action="seal")


def test_readers_do_not_disturb(base):
    with open_disk(base):
        assert problem(base) is None


def test_no_data_is_read(tmp_path, monkeypatch):
    image = make_base(tmp_path / "base.qcow2", noise(8 * MIB))
    read = []
    whole = HostFile.pread
    monkeypatch.setattr(HostFile, "pread", lambda self, offset, length: read.append(length) or whole(self, offset, length))
    assert problem(image) is None
    assert sum(read) < MIB
