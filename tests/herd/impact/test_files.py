"""`impact --files` against ground truth: an overlay mounted on the old and on the changed base, and the file system's checker."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cowherd import extents
from cowherd.guest.btrfs import read_btrfs
from cowherd.guest.source import Cached, Volume
from cowherd.herd.impact.files import impact_on_files
from cowherd.herd.impact.verdict import Hit
from cowherd.herd.overlays.clone import clone
from cowherd.image.open import open_disk
from tests.guest import truth
from tests.guest.lvm import lvm_on
from tests.guest.truth import BTRFS, EXT2, EXT3, EXT4, EXT4_BIG, EXT4_MORE, FAT16, FAT32, NTFS, XFS, Kind
from tests.storage.hosts import run

EXT4_LARGE = dataclasses.replace(EXT4, name="ext4 of 4 KiB blocks", make=[*EXT4.make, "-b", "4096"], size=192 << 20)
MIB = 1 << 20
FREE_AT = 150 << 20
"""Where no file of EXT4_LARGE lies."""

pytestmark = pytest.mark.qemu("qemu-io")


def make_base(herd: Path, kind: Kind, format: str) -> Path:
    """A base with a file system full of files, as the kernel writes it. It is made once for all tests, and copied."""
    herd.mkdir()
    made = herd.parent.parent / f"{kind.name}, {kind.size}, {len(kind.make)}.qcow2"
    if not made.exists():
        with truth.in_memory(herd.parent) as near:
            raw = near / "raw"
            with raw.open("wb") as file:
                file.truncate(kind.size)
            run(*kind.make, raw)
            with truth.mounted(raw, kind, kind.writing) as folder:
                truth.fill(folder, 1)
            make_image(raw, made)
    base = herd / f"base.{format}"
    if format == "qcow2":
        return Path(shutil.copy(made, base))
    truth.qemu_img("convert", "-O", format, made, base)
    return base


def make_image(raw: Path, image: Path, format: str = "qcow2") -> Path:
    """Makes an image of a raw file, which is deleted."""
    truth.qemu_img("convert", "-f", "raw", "-O", format, raw, image)
    raw.unlink()
    return image


def compare_with_truth(hit: Hit, before: dict[str, str], after: dict[str, str] | None) -> None:
    """Asserts that the report names exactly the files that the kernel finds different."""
    after = after or {}
    found = hit.inside.to_json()["files"]
    named = {what: {entry["path"] for entry in entries} for what, entries in found.items()}
    assert named["changed"] == {path for path in before.keys() & after.keys() if before[path] != after[path]}
    assert named["lost"] == before.keys() - after.keys()
    assert named["new"] == after.keys() - before.keys()


class Story:
    """A base with overlays, changed behind their backs."""

    def __init__(self, tmp_path: Path, kind: Kind, format: str = "qcow2"):
        truth.require_mounts(tmp_path, kind)
        self.scratch, self.kind, self.format = tmp_path, kind, format
        self.base = make_base(tmp_path / "herd", kind, format)
        self.donor = tmp_path / f"donor.{format}"

    def overlay(self, name: str, work=None, *, crashes: bool = False) -> Path:
        overlay = clone(self.base, self.base.with_name(name), base_format=self.format).overlay
        if work:
            truth.guest_writes(overlay, self.scratch, self.kind, work, format="qcow2", crashes=crashes)
        return overlay

    def change_base(self, work) -> None:
        self.before = {path: truth.listing_of(path, self.scratch, self.kind) for path in self.overlays()}
        shutil.copy(self.base, self.donor)
        self.base.chmod(0o644)
        truth.guest_writes(self.base, self.scratch, self.kind, work, format=self.format)

    def overlays(self) -> list[Path]:
        return sorted(path for path in self.base.parent.iterdir() if path != self.base and path.suffix != ".seal")

    def judged(self, **options) -> dict[str, Hit]:
        return {hit.path.name: hit for hit in impact_on_files(self.base, **options).overlays}

    def require_true(self, hits: dict[str, Hit]) -> None:
        """Holds the verdicts and lists against the kernel and the checker."""
        for path in self.overlays():
            hit = hits[path.name]
            assert hit.problem is None
            if hit.inside:
                known = {entry["path"] for entry in hit.inside.to_json()["files"]["new"]} | self.before[path].keys()
                after = truth.listing_of(path, self.scratch, self.kind, known=known)
                compare_with_truth(hit, self.before[path], after)
            clean = truth.is_clean(path, self.scratch, self.kind)
            assert (hit.verdict == "torn") == (not clean) or (clean and not self.kind.exact), hit.inside


KINDS = [EXT4, EXT3, EXT2, BTRFS, NTFS, FAT16, FAT32, XFS]


# What reads a file system does not see the format under it: one on a raw base stands for all.
@pytest.mark.parametrize(
    ("kind", "format"), [*((kind, "qcow2") for kind in KINDS), (EXT4, "raw")], ids=lambda value: getattr(value, "name", value)
)
def test_files_and_verdicts_are_what_the_kernel_and_the_checker_find(tmp_path, kind, format):
    story = Story(tmp_path, kind, format)
    story.overlay("none")
    story.overlay("few", lambda folder: (folder / "note").write_text("hello"))
    story.overlay("many", lambda folder: truth.churn(folder, 2, 40))
    story.change_base(lambda folder: truth.churn(folder, 3, 40))
    hits = story.judged(donors=[story.donor])
    assert hits["none"].verdict == "synchronised"
    story.require_true(hits)


@pytest.mark.parametrize("kind", [EXT4_MORE, EXT4_BIG], ids=lambda kind: kind.name)
def test_the_rarer_forms_of_ext4_are_judged_as_the_kernel_and_the_checker_do(tmp_path, kind):
    story = Story(tmp_path, kind)
    story.overlay("few", lambda folder: (folder / "note").write_text("hello"))
    story.overlay("many", lambda folder: truth.churn(folder, 2, 40))
    story.change_base(lambda folder: truth.churn(folder, 3, 40))
    story.require_true(story.judged(donors=[story.donor]))


@pytest.mark.parametrize("seed", range(4))
def test_small_changes_of_small_overlays_are_judged_as_the_checker_does(tmp_path, seed):
    story = Story(tmp_path, EXT4_LARGE)
    for number in range(3):
        story.overlay(f"overlay{number}", lambda folder, number=number: truth.churn(folder, 10 * seed + number, number))
    story.change_base(lambda folder: truth.churn(folder, 10 * seed + 5, 1 + seed))
    story.require_true(story.judged(donors=[story.donor]))


def overwrite_content(image: Path, path: str, scratch: Path, data: bytes) -> int:
    """Changes the content of a file behind the file system's back, where debugfs says that it lies. Returns that place."""
    raw = truth.raw_of(image, scratch)
    block = int(run("debugfs", "-R", f"bmap {path} 0", raw))
    size = int(re.search(r"Block size: +(\d+)", run("dumpe2fs", "-h", raw))[1])
    raw.unlink()
    piece = scratch / "piece"
    piece.write_bytes(data)
    truth.write(image, f"write -s {piece} {block * size} {len(data)}")
    return block * size


@pytest.fixture
def story(tmp_path):
    """A base with an overlay that has a file of its own, far from those of the base."""
    story = Story(tmp_path, EXT4_LARGE)
    story.overlay("overlay", lambda folder: (folder / "note").write_text("hello"))
    return story


def test_a_file_that_silently_holds_other_bytes_is_named_and_the_verdict_is_altered(story):
    story.change_base(lambda folder: None)
    start = overwrite_content(story.base, "/dir0/file0", story.scratch, b"x" * 8)
    hit = story.judged(donors=[story.donor])["overlay"]
    assert hit.verdict == "altered"
    assert [one[:3] for one in hit.inside.placed] == [("the whole disk", "/dir0/file0", start)]
    assert hit.inside.to_json()["files"]["changed"] == [{"place": "the whole disk", "path": "/dir0/file0"}]
    story.require_true({"overlay": hit})


def test_a_change_in_free_space_is_harmless_even_without_a_copy_of_the_old_content(story):
    story.change_base(lambda folder: None)
    free = FREE_AT
    truth.write(story.base, f"write -P 7 {free} 64k")
    story.donor.unlink()
    hit = story.judged()["overlay"]
    assert (hit.verdict, hit.inside.files) == ("harmless", {})
    assert not hit.inside.metadata
    story.require_true({"overlay": hit})


def test_without_the_old_content_it_says_what_cant_be_known(story):
    story.change_base(lambda folder: truth.churn(folder, 3, 20))
    story.donor.unlink()
    hit = story.judged()["overlay"]
    reasons = [entry["reason"] for entry in hit.inside.to_json()["unknown"] if entry["path"] is None]
    assert any("appeared or vanished" in reason and "no copy of" in reason for reason in reasons)
    after = truth.listing_of(hit.path, story.scratch, story.kind)
    changed = {path for path, digest in story.before[hit.path].items() if after.get(path, digest) != digest}
    named = {entry["path"] for entry in hit.inside.to_json()["files"]["changed"]}
    suspected = {entry["path"] for entry in hit.inside.to_json()["unknown"]}
    assert named <= changed <= named | suspected


def test_an_older_copy_that_is_compared_with_serves_as_the_donor(story):
    story.change_base(lambda folder: truth.churn(folder, 3, 20))
    story.require_true(story.judged(against=story.donor))


def test_a_base_that_is_unchanged_leaves_everything_intact(story):
    assert story.judged()["overlay"].verdict == "intact"


def test_an_overlay_that_wrote_only_what_the_base_holds_is_synchronised(story):
    overlay = clone(story.base, story.base.with_name("equal")).overlay
    story.change_base(lambda folder: truth.churn(folder, 3, 20))
    changed = story.scratch / "changed"
    changed.write_bytes(truth.raw_of(story.base, story.scratch).read_bytes()[: 8 << 20])
    truth.write(overlay, f"write -s {changed} 0 8M")
    assert story.judged(donors=[story.donor])["equal"].verdict == "synchronised"


def test_structures_that_are_hit_are_named(story):
    story.change_base(lambda folder: truth.churn(folder, 3, 20))
    found = story.judged(donors=[story.donor])["overlay"].inside.to_json()["metadata"]
    assert {"inode table"} <= {entry["structure"] for entry in found}


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_file_systems_in_partitions_are_judged_each_for_itself(tmp_path, label):
    truth.require("sfdisk")
    truth.require_mounts(tmp_path, EXT4)
    herd, raw = tmp_path / "herd", tmp_path / "making.raw"
    herd.mkdir()
    starts, size = [MIB, 65 * MIB], 48 * MIB
    with raw.open("wb") as file:
        file.truncate(128 * MIB)
    script = "".join(f"start={start // 512}, size={size // 512}\n" for start in starts)
    subprocess.run(["sfdisk", "-q", raw], input=f"label: {label}\n{script}", text=True, check=True, capture_output=True)
    for start in starts:
        run("mke2fs", "-q", "-t", "ext4", "-E", f"offset={start}", raw, f"{size // 1024}k")
        with truth.mounted(raw, EXT4, offset=start) as folder:
            truth.fill(folder, start)
    base = make_image(raw, herd / "base.qcow2")
    overlay = clone(base, herd / "overlay").overlay
    truth.guest_writes(overlay, tmp_path, EXT4, leave_a_note, format="qcow2", offset=starts[0])
    before = truth.listing_of(overlay, tmp_path, EXT4, starts[1])
    donor = shutil.copy(base, tmp_path / "donor")
    truth.guest_writes(base, tmp_path, EXT4, lambda folder: truth.churn(folder, 3, 20), format="qcow2", offset=starts[1])
    (hit,) = impact_on_files(base, donors=[donor]).overlays
    assert hit.verdict == "synchronised"
    assert {entry["place"] for entry in hit.inside.to_json()["files"]["changed"]} == {"partition 2"}
    compare_with_truth(hit, before, truth.listing_of(overlay, tmp_path, EXT4, starts[1]))


def test_xfs_in_logical_volumes_is_judged_volume_by_volume(tmp_path):
    truth.require_mounts(tmp_path, XFS)
    herd, raw = tmp_path / "herd", tmp_path / "making.raw"
    herd.mkdir()
    with raw.open("wb") as file:
        file.truncate(100 * MIB)
    script = f"label: gpt\nstart={MIB // 512}, size={98 * MIB // 512}\n"
    subprocess.run(["sfdisk", "-q", raw], input=script, text=True, check=True, capture_output=True)
    with lvm_on(raw, (MIB, 98 * MIB)) as lvm:
        lvm("vgcreate", "vg", *lvm.devices)
        for name in ("root", "data"):
            lvm.create(name, "-L", f"{XFS.size}b")
        starts = [lvm.segments(name)[0][0] for name in ("root", "data")]
    for start in starts:
        part = tmp_path / "part"
        with part.open("wb") as file:
            file.truncate(XFS.size)
        run(*XFS.make, part)
        with raw.open("r+b") as file:
            file.seek(start)
            file.write(part.read_bytes())
        with truth.mounted(raw, XFS, offset=start) as folder:
            truth.fill(folder, start, 30)
    base = make_image(raw, herd / "base.qcow2")
    overlay = clone(base, herd / "overlay").overlay
    truth.guest_writes(overlay, tmp_path, XFS, leave_a_note, format="qcow2", offset=starts[0])
    before = truth.listing_of(overlay, tmp_path, XFS, starts[1])
    donor = shutil.copy(base, tmp_path / "donor")
    truth.guest_writes(base, tmp_path, XFS, lambda folder: truth.churn(folder, 3, 20), format="qcow2", offset=starts[1])
    (hit,) = impact_on_files(base, donors=[donor]).overlays
    assert hit.verdict == "synchronised"
    assert {entry["place"] for entry in hit.inside.to_json()["files"]["changed"]} == {"logical volume vg/data"}
    compare_with_truth(hit, before, truth.listing_of(overlay, tmp_path, XFS, starts[1]))


def test_an_overlay_on_an_overlay_is_judged_by_all_that_it_shows(story):
    deep = clone(story.base.with_name("overlay"), story.base.with_name("deep"), herd=[story.base.parent]).overlay
    truth.guest_writes(deep, story.scratch, story.kind, lambda folder: truth.churn(folder, 8, 5), format="qcow2")
    story.change_base(lambda folder: truth.churn(folder, 3, 20))
    story.require_true(story.judged(donors=[story.donor]))


@pytest.mark.parametrize("seed", range(2))
def test_a_disk_whose_guest_crashed_is_judged_as_the_kernel_shows_it_after_a_mount(tmp_path, seed):
    story = Story(tmp_path, dataclasses.replace(EXT4, options=""))
    overlay = story.overlay("crashed", lambda folder: truth.churn(folder, seed + 10, 4), crashes=True)
    story.change_base(lambda folder: truth.churn(folder, seed + 20, 30))
    assert "/last" in story.before[overlay]
    hit = story.judged(donors=[story.donor])["crashed"]
    compare_with_truth(hit, story.before[overlay], truth.listing_of(overlay, story.scratch, story.kind))
    assert hit.inside.unknown == []


def leave_a_note(folder: Path) -> None:
    (folder / "note").write_text("hello")


def _read_from_base(overlay: Path, areas: np.ndarray) -> list[list[int]]:
    """Returns the parts of byte ranges that an overlay has no copy of: a leaf may lie beside what the guest has written."""
    with open_disk(overlay) as disk:
        own = [extents.ranges_of(part[part["kind"] != extents.BACKING]) for part in disk.extents(depth=1)]
    return extents.subtract(extents.normalised(areas), extents.normalised(np.concatenate(own))).tolist()


@pytest.mark.parametrize("tree", ["chunk tree", "subvolume tree"])
def test_a_btrfs_that_lost_a_block_of_a_tree_is_torn(tmp_path, tree):
    small = dataclasses.replace(BTRFS, make=["mkfs.btrfs", "-q", "-m", "single", "-n", "4096"], size=64 << 20)
    story = Story(tmp_path, small)
    overlay = story.overlay("few")
    # clusters of one leaf: the guest copies none that it does not change
    truth.qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", story.base, "-F", "qcow2", overlay)
    truth.guest_writes(overlay, tmp_path, small, leave_a_note, format="qcow2")
    story.change_base(lambda folder: None)
    data = truth.raw_of(overlay, tmp_path).read_bytes()
    system = read_btrfs(Volume(Cached(lambda at, length: data[at : at + length], len(data)), "disk", [(0, len(data))]))
    (leaves,) = [area for name, area in system.areas if name == f"{tree} (leaves)"]
    base = truth.raw_of(story.base, tmp_path).read_bytes()
    shared = [at for low, high in _read_from_base(overlay, leaves) for at in range(low, high, 4096)]
    shared = [at for at in shared if base[at : at + 4096] == data[at : at + 4096]]
    truth.write(story.base, f"write -P 7 {shared[-1]} 4096")
    hits = story.judged(donors=[story.donor])
    assert hits["few"].verdict == "torn"
    assert hits["few"].inside.to_json()["files"]["lost"]
    story.require_true(hits)
