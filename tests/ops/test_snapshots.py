"""A commit or a rebase is refused exactly if it would change what an internal snapshot shows, as QEMU reads it."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import pytest

from cowherd.errors import SnapshotsWouldChange
from cowherd.ops.commit import commit
from cowherd.ops.rebase.keeping_content import doubtful_bytes
from cowherd.ops.rebase.rebase import rebase
from tests.snapshots import MIB, Chance, all_shown, qemu_img, qemu_io, save_machine, shown

pytestmark = pytest.mark.qemu("qemu-io")

SEEDS = range(8)


def copied(directory: Path, name: str) -> Path:
    shutil.copytree(directory, directory.parent / name)
    return directory.parent / name


def changed_by(directory: Path, job, *names: str) -> set[tuple[str, str]]:
    """The (image, snapshot) of the images `names` in a copy of `directory` that show other content after `job(copy)`."""
    copy = copied(directory, "let-through")
    before = {name: all_shown(copy / name) for name in names}
    job(copy)
    after = {name: all_shown(copy / name) for name in names}
    shutil.rmtree(copy)
    return {(name, one) for name in names for one, data in before[name].items() if after[name][one] != data}


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused(job) -> set[tuple[str, str]]:
    """What a job is refused for; it goes through if that is nothing."""
    try:
        job()
    except SnapshotsWouldChange as error:
        return {(path.name, name) for path, name in error.snapshots}
    return set()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("deeper", [False, True], ids=["into the backing file", "into a deeper image"])
def test_a_commit_is_refused_for_the_snapshots_that_it_would_change(tmp_path, seed, deeper):
    herd = tmp_path / "herd"
    herd.mkdir()
    Chance(random.Random(seed)).chain(herd, "abc")
    base = "a.qcow2" if deeper else None
    above = ("b.qcow2", "c.qcow2") if deeper else ("c.qcow2",)

    def let_through(copy: Path) -> None:
        commit(copy / "c.qcow2", format="qcow2", base=base and str(copy / base), keep_snapshots=False)

    expected, before = changed_by(herd, let_through, *above), files(herd)
    kept = {name: all_shown(herd / name) for name in ("b.qcow2", "c.qcow2")}
    hit = refused(lambda: commit(herd / "c.qcow2", format="qcow2", base=base and str(herd / base)))
    assert hit == expected
    if hit:
        assert files(herd) == before
    else:
        assert {name: all_shown(herd / name) for name in kept} == kept  # also those of the image that is committed into
        for name in ("a.qcow2", "b.qcow2", "c.qcow2"):
            qemu_img("check", "-q", herd / name)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("onto", ["nothing", "copy", "other"])
def test_a_rebase_is_refused_for_the_snapshots_that_it_would_change(tmp_path, seed, onto):
    herd, chance = tmp_path / "herd", Chance(random.Random(seed))
    herd.mkdir()
    chance.chain(herd, "abc")
    new = None if onto == "nothing" else "new.qcow2"
    if new:
        qemu_img("convert", "-O", "qcow2", herd / "b.qcow2", herd / new)
    if onto == "other":
        chance.write(herd / "new.qcow2", 1)
        qemu_img("resize", "-q", "--shrink", herd / "new.qcow2", chance.random.choice([MIB // 2, MIB, 3 * MIB]))
        chance.write(herd / "new.qcow2", 1)

    def let_through(copy: Path) -> None:
        rebase(copy / "c.qcow2", new, format="qcow2", backing_format=new and "qcow2", keep_snapshots=False)

    expected, before = changed_by(herd, let_through, "c.qcow2"), files(herd)
    kept = all_shown(herd / "c.qcow2")
    options = {"format": "qcow2", "backing_format": new and "qcow2"}
    assert refused(lambda: doubtful_bytes(herd / "c.qcow2", new, **options)) == expected
    hit = refused(lambda: rebase(herd / "c.qcow2", new, **options))
    assert hit == expected
    if onto == "copy":
        assert not hit
    if hit:
        assert files(herd) == before
    else:
        assert all_shown(herd / "c.qcow2") == kept
        qemu_img("check", "-q", herd / "c.qcow2")


def test_random_chains_are_refused_and_let_through(tmp_path):
    """Otherwise the two tests above would show nothing."""
    outcomes = set()
    for seed in SEEDS:
        herd = tmp_path / str(seed)
        herd.mkdir()
        Chance(random.Random(seed)).chain(herd, "abc")
        outcomes.add(bool(refused(lambda herd=herd: commit(herd / "c.qcow2", format="qcow2"))))
    assert outcomes == {False, True}


def overlay(directory: Path, size: int = MIB) -> Path:
    """An overlay that holds nothing, of a base of ones."""
    qemu_img("create", "-q", "-f", "qcow2", directory / "base", MIB)
    qemu_io("-f", "qcow2", "-c", "write -P 1 0 1M", directory / "base")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", directory / "overlay", size)
    return directory / "overlay"


def test_only_where_the_bytes_really_differ_is_a_snapshot_in_the_way(tmp_path):
    image = overlay(tmp_path)
    qemu_img("snapshot", "-c", "before", image)
    qemu_io("-f", "qcow2", "-c", "write -P 1 64k 128k", image)  # what the base holds too
    commit(image, format="qcow2")
    assert shown(image, "before") == b"\1" * MIB


def test_what_is_shared_with_the_snapshot_is_not_in_its_way(tmp_path):
    image = overlay(tmp_path)
    qemu_io("-f", "qcow2", "-c", "write -P 5 64k 128k", image)
    qemu_img("snapshot", "-c", "before", image)
    before = shown(image, "before")
    commit(image, format="qcow2")
    assert shown(image, "before") == before


def test_a_saved_machine_is_no_part_of_what_the_snapshot_shows(tmp_path):
    image = overlay(tmp_path)
    qemu_io("-f", "qcow2", "-c", "write -P 5 0 1M", image)
    save_machine(image, "running")
    before = shown(image, "running")
    rebase(image, None, format="qcow2")
    (tmp_path / "base").unlink()
    assert shown(image, "running") == before


def test_a_snapshot_of_a_larger_disk_sees_what_is_committed_behind_the_end_of_the_disk_now(tmp_path):
    image = overlay(tmp_path)
    middle = tmp_path / "middle"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "overlay", "-F", "qcow2", middle)
    qemu_img("snapshot", "-c", "large", middle)
    qemu_img("resize", "-q", "--shrink", middle, MIB // 2)
    qemu_io("-f", "qcow2", "-c", "write -P 9 0 64k", image)
    before = files(tmp_path)
    qemu_img("convert", "-O", "qcow2", tmp_path / "base", tmp_path / "shorter")
    qemu_io("-f", "qcow2", "-c", "write -P 9 0 64k", "-c", "write -P 3 768k 64k", tmp_path / "shorter")
    with pytest.raises(SnapshotsWouldChange, match="'large' of"):
        rebase(middle, "shorter", format="qcow2", backing_format="qcow2")
    assert {name: data for name, data in files(tmp_path).items() if name != "shorter"} == before


def test_a_snapshot_without_a_name_is_called_by_its_number(tmp_path):
    image = overlay(tmp_path)
    with contextlib.suppress(BaseException):
        qemu_img("snapshot", "-c", "", image)
    qemu_io("-f", "qcow2", "-c", "write -P 9 0 64k", image)
    with pytest.raises(SnapshotsWouldChange) as caught:
        commit(image, format="qcow2")
    assert caught.value.exit_code == 3
    assert caught.value.facts()["snapshots"] == [{"path": str(image), "name": "1"}]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("job", ["commit", "rebase"])
def test_snapshots_of_what_stands_on_the_image_show_what_they_did(tmp_path, seed, job):
    _, middle, top = Chance(random.Random(seed)).chain(tmp_path, "abc")
    before = all_shown(top)
    if job == "commit":
        commit(middle, format="qcow2", keep_snapshots=False)
    else:
        rebase(middle, None, format="qcow2", keep_snapshots=False)
    assert all_shown(top) == before
