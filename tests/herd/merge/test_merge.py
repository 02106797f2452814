from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.errors import (
    BaseSealed,
    HostFileError,
    ImageInUse,
    InvalidRequest,
    NotEnoughSpace,
    SnapshotsWouldChange,
    UnsupportedFeature,
)
from cowherd.herd.lineage.survey import survey
from cowherd.herd.merge import fork
from cowherd.herd.merge.faults import MergeInterrupted
from cowherd.herd.merge.merge import lock_for_writing, merge
from cowherd.herd.merge.offline import Offline
from cowherd.herd.merge.recover import FINISHED, recover
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.faults import DriftFound, FormatDisputed, HerdNotReadable
from cowherd.herd.records.journal import journal_path
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.live.holders import holders
from cowherd.storage import attributes, writeback
from cowherd.storage.copying import FileRange
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from cowherd.storage.protection import Protection, current
from tests.herd.merge.herds import MIB, assert_sound, contents, large_herd
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write
from tests.snapshots import shown as snapshot_content

pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(2 * MIB)
STRATEGIES = ("preserve", "fork")


@pytest.fixture
def herd(tmp_path):
    """base <- one <- two <- three, and base <- other <- leaf; all overlays hold writes of their own. The base is sealed."""
    base = make_base(tmp_path / "base", CONTENT)
    for name, under in (("one", "base"), ("two", "one"), ("three", "two"), ("other", "base"), ("leaf", "other")):
        clone(tmp_path / under, tmp_path / name, seal_base=under == "base")
    write(tmp_path / "one", "write -P 1 0 200k", "write -z 1M 128k")
    write(tmp_path / "two", "write -P 2 100k 200k", "write -P 2 1984k 64k")
    write(tmp_path / "three", "write -P 3 150k 10k")
    write(tmp_path / "other", "write -P 4 64k 64k")
    write(tmp_path / "leaf", "write -P 5 70k 1k")
    return {name: tmp_path / name for name in ("base", "one", "two", "three", "other", "leaf")} | {"directory": base.parent}


def shown(herd) -> dict[str, bytes]:
    return {name: content(path) for name, path in herd.items() if name != "directory" and path.exists()}


def problems(herd) -> dict[str, str]:
    directory = herd["directory"]
    rows = verify(herd=[directory]) + verify(herd=[directory], full=True)
    return {row.path.name: f"{row.status}: {row.detail}" for row in rows if not row.status.is_fine}


def files(herd) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in herd["directory"].iterdir()}


def bases(herd) -> dict[str, str | None]:
    lineage = survey([herd["directory"]])
    parents = {image.path.name: lineage.parent(image) for image in lineage.images.values()}
    return {name: parent.path.name if parent else None for name, parent in parents.items()}


def test_preserve_puts_the_overlay_into_its_base_and_changes_no_other_disk(herd):
    before = shown(herd)
    done = merge(herd["one"], strategy="preserve")
    assert done.left == []
    assert shown(herd) == {name: before[name] for name in ("two", "three", "other", "leaf")} | {"base": before["one"]}
    assert bases(herd) == {"base": None, "two": "base", "three": "two", "other": "base", "leaf": "other"}
    assert problems(herd) == {}
    assert not journal_path(herd["base"]).exists()


def test_what_a_merge_writes_is_sent_to_the_disk_meanwhile(herd, monkeypatch):
    begun = set()
    monkeypatch.setattr(writeback, "BEHIND_BYTES", 1)
    monkeypatch.setattr(HostFile, "start_writing", lambda file, offset, length: begun.add(os.path.basename(file.path)))
    merge(herd["one"], strategy="preserve")
    assert begun == {"base", "other"}


def test_a_fork_is_sent_to_the_disk_while_it_is_copied(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(writeback, "BEHIND_BYTES", 1)
    monkeypatch.setattr(HostFile, "start_writing", lambda file, offset, length: begun.append(file.path))
    monkeypatch.setattr(fork, "BEHIND_BYTES", 100_000)
    monkeypatch.setattr(fork, "clone_range", lambda *given: False)
    (tmp_path / "source").write_bytes(noise(250_000))
    fork.copy_file(HostFile.open(tmp_path / "source", lock=None), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == noise(250_000)
    assert begun == 3 * [tmp_path / "copy"]


def test_fork_leaves_the_base_alone_and_puts_the_overlays_overlays_on_a_new_one(herd):
    before = shown(herd)
    base = herd["base"].read_bytes()
    merge(herd["one"], strategy="fork")
    assert herd["base"].read_bytes() == base
    assert content(herd["directory"] / "base-merged") == before["one"]
    assert shown(herd) == {name: data for name, data in before.items() if name != "one"}
    assert bases(herd) == {
        "base": None,
        "base-merged": None,
        "two": "base-merged",
        "three": "two",
        "other": "base",
        "leaf": "other",
    }
    assert problems(herd) == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_stands_on_the_overlay_finds_its_new_base_from_each_directory_that_it_has_a_name_in(herd, strategy):
    elsewhere = herd["directory"] / "deep" / "below"
    elsewhere.mkdir(parents=True)
    (elsewhere / "two").hardlink_to(herd["two"])
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", herd["one"], "-F", "qcow2", herd["two"])
    before = content(herd["two"])
    merge(herd["one"], strategy=strategy, herd=[herd["directory"]])
    assert (content(herd["two"]), content(elsewhere / "two")) == (before, before)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_deep_chain_is_merged_at_once_and_what_lies_between_keeps_its_content(herd, strategy):
    before = shown(herd)
    merge(herd["two"], into=herd["base"], strategy=strategy)
    now = shown(herd)
    merged = now.pop("base") if strategy == "preserve" else content(herd["directory"] / "base-merged")
    assert merged == before["two"]
    assert now == {name: before[name] for name in now}
    assert set(now) >= {"one", "three", "other", "leaf"}
    assert problems(herd) == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("into", ["one", "base"])
def test_an_overlay_that_is_kept_empty_stands_on_what_it_was_merged_into(herd, strategy, into):
    before = shown(herd)
    merge(herd["two"], into=herd[into], strategy=strategy, keep="empty")
    assert content(herd["two"]) == before["two"]
    assert bases(herd)["two"] == (into if strategy == "preserve" else f"{into}-merged")
    assert "DATA" not in qemu_img("map", herd["two"])
    assert qemu_img("map", "--output=json", "-f", "qcow2", herd["two"]).count('"depth": 0') == 0
    assert shown(herd) == before | ({into: before["two"]} if strategy == "preserve" else {})
    assert problems(herd) == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("into", ["one", "base"])
def test_an_overlay_whose_content_is_kept_reads_as_before(herd, strategy, into):
    before = shown(herd)
    merge(herd["two"], into=herd[into], strategy=strategy, keep="content")
    assert bases(herd)["two"] == "one"
    assert shown(herd) == before | ({into: before["two"]} if strategy == "preserve" else {})
    assert problems(herd) == {}


def test_the_base_is_sealed_as_the_next_generation_and_its_overlays_are_bound_to_that(herd):
    first = read_record(seal_path(herd["base"]))
    merge(herd["one"], strategy="preserve")
    second = read_record(seal_path(herd["base"]))
    assert (second.seal_id, second.generation) == (first.seal_id, 2)
    for name in ("two", "other"):
        assert read_binding(herd[name]).content_digest == second.content_digest != first.content_digest


def test_a_protected_base_is_protected_again(herd):
    seal(herd["base"], level=Protection.READONLY)
    seal(herd["other"], level=Protection.READONLY)
    merge(herd["one"], strategy="preserve")
    assert current(herd["base"]) is current(herd["other"]) is Protection.READONLY
    assert problems(herd) == {}


def test_a_fork_is_sealed_and_protected_as_its_model(herd):
    seal(herd["base"], level=Protection.READONLY)
    merge(herd["one"], strategy="fork", new_base=herd["directory"] / "new")
    assert current(herd["directory"] / "new") is Protection.READONLY
    assert read_binding(herd["two"]).seal_id == read_record(seal_path(herd["directory"] / "new")).seal_id


def test_only_what_changes_for_an_overlay_is_written_to_it(herd):
    plan = merge(herd["one"], strategy="preserve", dry_run=True).plan.to_json()
    written = {row["path"].rsplit("/", 1)[1]: row["ranges"] for row in plan["writes"]}
    assert written == {"other": [[0, 65536], [131072, 131072], [1048576, 131072]]}
    hits = {row["path"].rsplit("/", 1)[1]: sum(length for _, length in row["exposed"]) for row in plan["dependents"]}
    assert hits == {"one": 0, "two": 0, "three": 0, "other": 327680, "leaf": 327680}


def test_bytes_that_are_equal_already_are_not_written_anywhere(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    overlay = make_overlay(tmp_path / "overlay", "base")
    make_overlay(tmp_path / "other", "base")
    (tmp_path / "same").write_bytes(CONTENT[: MIB // 2])
    write(overlay, f"write -s {tmp_path / 'same'} 0 512k")
    before = base.read_bytes()
    plan = merge(overlay, strategy="preserve").plan
    assert plan.to_json()["changed_bytes"] == 0
    assert base.read_bytes() == before


def test_auto_takes_what_writes_less(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    overlay = make_overlay(tmp_path / "overlay", "base")
    for number in range(3):
        make_overlay(tmp_path / f"other{number}", "base")
    write(overlay, "write -P 1 0 64k")
    plan = merge(overlay, dry_run=True).plan
    assert (plan.strategy, plan.cost.written) == ("preserve", 4 * 65536)
    write(overlay, "write -P 1 0 2M")
    plan = merge(overlay, dry_run=True).plan
    assert plan.strategy == "fork"
    assert plan.preserve_cost.written > plan.cost.written
    assert base.exists()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_dry_run_changes_nothing(herd, strategy):
    before = files(herd)
    assert not merge(herd["one"], strategy=strategy, dry_run=True).done
    assert files(herd) == before


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("overlay_size", "base_size"), [(MIB + 512, 2 * MIB), (3 * MIB + 1024, 2 * MIB), (MIB, MIB - 4096)])
def test_overlays_smaller_and_larger_than_the_base(tmp_path, strategy, overlay_size, base_size):
    held = noise(base_size, 1)
    make_base(tmp_path / "base", held)
    overlay = make_overlay(tmp_path / "overlay", "base", size=overlay_size)
    for name, size in (("small", MIB // 2), ("equal", base_size), ("large", 4 * MIB)):
        make_overlay(tmp_path / name, "base", size=size)
    herd = {name: tmp_path / name for name in ("small", "equal", "large")}
    write(overlay, f"write -P 7 {overlay_size - 100 * 1024} 100k")
    before, merged = contents(herd), content(overlay)
    merge(overlay, strategy=strategy)
    assert content(tmp_path / ("base" if strategy == "preserve" else "base-merged")) == merged + held[overlay_size:]
    assert contents(herd) == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_raw_base(tmp_path, strategy):
    base = make_base(tmp_path / "base.raw", CONTENT, format="raw")
    overlay, other = (make_overlay(tmp_path / name, "base.raw", base_format="raw") for name in ("overlay", "other"))
    write(overlay, "write -P 1 0 64k", "write -z 1M 64k")
    before, merged = content(other), content(overlay)
    merge(overlay, strategy=strategy)
    target = base if strategy == "preserve" else tmp_path / "base-merged.raw"
    assert target.read_bytes() == merged
    assert content(other) == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_overlay_in_another_directory_named_through_a_link(herd, tmp_path_factory, strategy):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    moved = clone(herd["base"], elsewhere / "moved").overlay
    leaf = make_overlay(elsewhere / "leaf", "moved")
    write(moved, "write -P 9 0 64k")
    (elsewhere / "link").symlink_to(moved)
    before = shown(herd) | {"leaf2": content(leaf)}
    merge(elsewhere / "link", strategy=strategy, herd=[herd["directory"]])
    now = shown(herd) | {"leaf2": content(leaf)}
    assert {name for name in now if now[name] != before[name]} == ({"base"} if strategy == "preserve" else set())
    assert problems(herd) == {}


def test_an_unsealed_herd_stays_unsealed(tmp_path):
    make_base(tmp_path / "base", CONTENT)
    overlay, other = (make_overlay(tmp_path / name, "base") for name in ("overlay", "other"))
    write(overlay, "write -P 1 0 64k")
    before = content(other)
    assert merge(overlay, strategy="preserve").left == []
    assert content(other) == before
    assert list(tmp_path.glob("*.seal")) == []


def test_an_image_without_a_base_can_not_be_merged(herd):
    with pytest.raises(InvalidRequest, match="no backing file"):
        merge(herd["base"])


def test_an_image_that_is_not_below_the_overlay_is_no_target(herd):
    with pytest.raises(InvalidRequest, match="does not stand on"):
        merge(herd["two"], into=herd["other"])


def test_a_sealed_overlay_is_not_merged_away(herd):
    seal(herd["one"])
    with pytest.raises(BaseSealed) as caught:
        merge(herd["one"])
    assert caught.value.dependents == (herd["three"], herd["two"])
    merge(herd["one"], keep="content", strategy="preserve")
    assert problems(herd) == {}


def test_a_base_that_is_not_as_sealed_is_refused(herd):
    write(herd["base"], "write -P 9 0 64k")
    with pytest.raises(DriftFound):
        merge(herd["one"])


def test_a_base_with_internal_snapshots_of_its_own_is_not_merged_into(herd):
    os.unlink(seal_path(herd["base"]))
    qemu_img("snapshot", "-c", "then", herd["base"])
    before = files(herd)
    with pytest.raises(InvalidRequest, match=r"\(1, 'then' among them\)"):
        merge(herd["one"], strategy="preserve")
    assert files(herd) == before


@pytest.mark.parametrize("name", ["one", "other"])
def test_internal_snapshots_are_refused_since_they_would_see_the_change(herd, name):
    os.unlink(seal_path(herd["base"]))
    qemu_img("snapshot", "-c", "then", herd[name])
    before = files(herd)
    with pytest.raises(SnapshotsWouldChange, match=f"'then' of .*{name}") as caught:
        merge(herd["one"], strategy="preserve")
    assert ("--strategy fork" in str(caught.value)) == (name == "other")
    assert files(herd) == before


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["two", "three", "leaf"])
def test_snapshots_of_what_stands_on_overlays_show_what_they_did(herd, strategy, name):
    qemu_img("snapshot", "-c", "then", herd[name])
    write(herd[name], "write -P 9 0 300k", "write -P 9 1900k 100k")
    before = snapshot_content(herd[name], "then")
    merge(herd["one"], strategy=strategy)
    assert snapshot_content(herd[name], "then") == before
    qemu_img("check", "-q", herd[name])


def test_the_overlay_stays_if_a_snapshot_on_it_would_see_the_end_of_a_larger_base(tmp_path):
    make_base(tmp_path / "base", CONTENT)
    overlay = make_overlay(tmp_path / "overlay", "base", size=MIB)
    leaf = make_overlay(tmp_path / "leaf", "overlay", size=2 * MIB)
    qemu_img("snapshot", "-c", "large", leaf)
    qemu_img("resize", "-q", "--shrink", leaf, MIB)
    before = snapshot_content(leaf, "large")
    with pytest.raises(InvalidRequest, match="internal snapshot of it"):
        merge(overlay, strategy="preserve")
    merge(overlay, strategy="preserve", keep="empty")
    assert snapshot_content(leaf, "large") == before


def test_the_overlay_stays_if_what_stands_on_it_would_see_the_end_of_a_larger_base(tmp_path):
    make_base(tmp_path / "base", CONTENT)
    overlay = make_overlay(tmp_path / "overlay", "base", size=MIB)
    leaf = make_overlay(tmp_path / "leaf", "overlay", size=2 * MIB)
    before = content(leaf)
    with pytest.raises(InvalidRequest, match="--keep empty"):
        merge(overlay, strategy="preserve")
    merge(overlay, strategy="preserve", keep="empty")
    assert content(leaf) == before


@pytest.mark.parametrize("held", ["one", "two", "other", "base"])
def test_an_image_that_a_running_process_has_open_is_refused_with_its_name(herd, held):
    before = files(herd)
    options = ["-r"] if held == "base" else []
    holder = subprocess.Popen(["qemu-io", *options, "-f", "qcow2", herd[held]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        wait_for_lock(herd[held], holder)
        with pytest.raises(ImageInUse) as caught:
            merge(herd["one"], strategy="preserve")
        assert any("qemu-io" in line for line in caught.value.holders)
        assert files(herd) == before
    finally:
        holder.communicate(b"quit\n")


def wait_for_lock(image, holder) -> None:
    for _ in range(200):
        if any(one.pid == holder.pid and one.locking for one in holders(image)):
            return
        time.sleep(0.02)
    pytest.fail("qemu-io takes no lock")


@pytest.mark.parametrize("dry_run", [False, True])
def test_nothing_is_planned_while_a_machine_writes_to_an_image_of_the_chain(herd, dry_run):
    before = files(herd)
    with HostFile.open(herd["base"], writable=True, lock=WRITE), pytest.raises(ImageInUse):
        merge(herd["three"], into=herd["one"], strategy="fork", dry_run=dry_run)
    assert files(herd) == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_chain_whose_base_is_recorded_in_two_formats_is_left_alone(herd, strategy):
    make_overlay(herd["directory"] / "odd", "base", base_format="raw")
    before = files(herd)
    with pytest.raises(FormatDisputed):
        merge(herd["two"], strategy=strategy)
    assert files(herd) == before


def test_a_fork_can_be_made_while_a_machine_runs_on_another_overlay(herd):
    before = shown(herd)
    holder = subprocess.Popen(["qemu-io", "-f", "qcow2", herd["other"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        wait_for_lock(herd["other"], holder)
        merge(herd["one"], strategy="fork")
    finally:
        holder.communicate(b"quit\n")
    assert shown(herd) == {name: data for name, data in before.items() if name != "one"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_too_little_space_is_found_out_before_anything_is_written(herd, monkeypatch, strategy):
    before = files(herd)
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 100)
    with pytest.raises(NotEnoughSpace, match="nothing was changed"):
        merge(herd["one"], strategy=strategy)
    assert files(herd) == before


@pytest.mark.parametrize(
    ("strategy", "room"), [*(("preserve", room) for room in (0, 2, 5, 8, 10, 12)), *(("fork", room) for room in (0, 2, 4, 6, 7))]
)
def test_a_disk_that_fills_up_meanwhile_harms_nobody_and_recover_goes_on(herd, monkeypatch, strategy, room):
    before = shown(herd)
    left = [room]

    def until_full(write):
        def limited(*arguments):
            if not left[0]:
                raise HostFileError("the disk", "write", OSError(errno.ENOSPC, "No space left on device"))
            left[0] -= 1
            return write(*arguments)

        return limited

    with monkeypatch.context() as disk:
        disk.setattr(HostFile, "pwritev", until_full(HostFile.pwritev))
        disk.setattr(FileRange, "put", until_full(FileRange.put))
        with pytest.raises((HostFileError, MergeInterrupted), match="No space left"):
            merge(herd["one"], strategy=strategy)
    now = shown(herd)
    assert {name for name in now if now[name] != before[name]} <= {"base"}
    ended = recover([herd["directory"]])
    assert [one.error for one in ended if one.error] == []
    if [one.outcome for one in ended] != [FINISHED]:
        merge(herd["one"], strategy=strategy)
    now = shown(herd)
    merged = now.pop("base") if strategy == "preserve" else content(herd["directory"] / "base-merged")
    assert merged == before["one"]
    assert now == {name: before[name] for name in now}
    assert problems(herd) == {}
    assert_sound({name: herd[name] for name in now}, codes=(0, 3))


def merged_anyhow(overlay, **options) -> None:
    """Merges, and keeps the overlay empty where it can't be removed."""
    try:
        merge(overlay, **options)
    except InvalidRequest:
        merge(overlay, **{**options, "keep": "empty"})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_in_a_herd_of_twenty_overlays_no_other_disk_changes(tmp_path, strategy):
    herd = large_herd(tmp_path, seed=5)
    before = contents(herd)
    for name in ("o00", "o03", "o07"):
        merged_anyhow(herd[name], strategy=strategy)
        before = {name: digest for name, digest in before.items() if herd[name].exists()}
        now = contents(herd)
        changed = {name for name in before if now[name] != before[name]}
        assert changed <= {"base", *(image.path.name for image in survey([tmp_path]).roots())}
        before = now
    assert_sound(herd)


@settings(max_examples=15)
@given(st.data())
def test_any_merge_in_any_herd_harms_no_other_disk(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("herd")
    seed = data.draw(st.integers(0, 9999))
    generator = random.Random(seed)
    herd = large_herd(directory, overlays=6, seed=seed)
    for path in herd.values():
        if generator.random() < 0.3:
            seal(path, bind=generator.random() < 0.5)
    lineage = survey([directory])
    overlays = [lineage.find(path) for name, path in herd.items() if name != "base"]
    top = generator.choice([image for image in overlays if image.seal is None] or overlays)
    below = lineage.chain(top)[1:]
    target = generator.choice(below)
    keep = "content" if top.seal else generator.choice(("nothing", "empty", "content"))
    strategy = generator.choice(STRATEGIES)
    before = contents(herd)
    merged_anyhow(top.path, into=target.path, strategy=strategy, keep=keep)
    now = contents(herd)
    unchanged = set(now) - ({target.path.name} if strategy == "preserve" else set())
    assert {name for name in unchanged if now[name] != before[name]} == set()
    rows = verify(herd=[directory]) + verify(herd=[directory], full=True)
    assert [row for row in rows if not row.status.is_fine] == []
    assert_sound({name: path for name, path in herd.items() if path.exists()})


def test_an_overlay_that_appears_after_the_plan_was_made_stops_the_merge(tmp_path, monkeypatch):
    make_base(tmp_path / "base", noise(65536))
    make_overlay(tmp_path / "o", "base")
    write(tmp_path / "o", "write -P 7 0 4096")
    locked = lock_for_writing

    def late(*arguments):
        make_overlay(tmp_path / "late", "base")
        locked(*arguments)

    monkeypatch.setattr("cowherd.herd.merge.merge.lock_for_writing", late)
    with pytest.raises(ImageInUse):
        merge(tmp_path / "o", strategy="preserve")
    assert content(tmp_path / "late") == noise(65536)


@pytest.fixture
def rival(herd, monkeypatch):
    """Takes the free name of a fork after the plan was made, as another merge does."""
    taken = herd["directory"] / "base-merged"

    def late(*arguments):
        taken.write_bytes(b"taken")
        lock_for_writing(*arguments)

    monkeypatch.setattr("cowherd.herd.merge.merge.lock_for_writing", late)
    return taken


def test_a_fork_whose_name_was_taken_meanwhile_gets_another(herd, rival):
    before = shown(herd)
    plan = merge(herd["one"], strategy="fork").plan
    assert plan.fork == herd["directory"] / "base-merged2"
    assert content(plan.fork) == before["one"]
    assert rival.read_bytes() == b"taken"


def test_a_fork_of_a_given_name_that_was_taken_meanwhile_is_not_made(herd, rival):
    with pytest.raises(InvalidRequest, match="is there already"):
        merge(herd["one"], strategy="fork", new_base=rival)
    assert not journal_path(herd["base"]).exists()
    assert rival.read_bytes() == b"taken"


def test_a_fork_is_not_begun_if_the_host_can_not_tell_whether_its_name_is_free(herd, monkeypatch):
    before = shown(herd)
    free, lstat = herd["directory"] / "base-merged", os.lstat

    def failing(path, *arguments, **options):
        if journal_path(herd["base"]).exists() and path == free:
            raise OSError(errno.EIO, "Input/output error")
        return lstat(path, *arguments, **options)

    monkeypatch.setattr(os, "lstat", failing)
    with pytest.raises(HostFileError, match="base-merged"):
        merge(herd["one"], strategy="fork")
    monkeypatch.undo()
    assert not journal_path(herd["base"]).exists()
    assert shown(herd) == before


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_takes_the_name_of_a_fork_at_the_last_moment_is_left_alone(herd, monkeypatch, links):
    taken = herd["directory"] / "base-merged"
    before = content(herd["one"])

    def late(path, known, *, real=attributes.give_to):
        taken.write_bytes(b"taken")
        return real(path, known)

    with monkeypatch.context() as patched:
        patched.setattr("cowherd.herd.merge.fork.give_to", late)
        with pytest.raises(MergeInterrupted, match="another file has taken the name"):
            merge(herd["one"], strategy="fork")
    assert taken.read_bytes() == b"taken"
    taken.rename(herd["directory"] / "moved")
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    recover([herd["directory"]])
    assert content(taken) == before
    assert [path.name for path in herd["directory"].glob(".cowherd-*")] == []


def no_links(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_fork_that_has_both_its_names_when_the_power_fails_keeps_one(herd, monkeypatch):
    before = content(herd["one"])

    def gone(path):
        raise HostFileError(path, "remove", OSError(errno.EIO, os.strerror(errno.EIO)))

    with monkeypatch.context() as patched:
        patched.setattr("cowherd.herd.merge.fork.take_name", gone)
        with pytest.raises(MergeInterrupted):
            merge(herd["one"], strategy="fork")
    recover([herd["directory"]])
    assert content(herd["directory"] / "base-merged") == before
    assert [path.name for path in herd["directory"].glob(".cowherd-*")] == []


@pytest.fixture
def unreadable(herd, monkeypatch):
    """A file of the herd that this user may not open: an overlay, for all that anybody knows."""
    path = herd["directory"] / "locked"
    make_overlay(path, herd["base"])

    def refuse(name, *arguments, real=os.open, **options):
        if os.fspath(name) == os.fspath(path):
            raise PermissionError(13, "Permission denied")
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    return path


def test_preserve_is_refused_while_there_may_be_overlays_that_nobody_knows_of(herd, unreadable):
    before = files(herd)
    with pytest.raises(HerdNotReadable) as refused:
        merge(herd["one"], strategy="preserve")
    assert (refused.value.unreadable, refused.value.exit_code) == ((unreadable,), 3)
    assert files(herd) == before


def test_auto_forks_where_there_may_be_overlays_that_nobody_knows_of(herd, unreadable):
    assert merge(herd["one"], dry_run=True).plan.strategy == "fork"
    assert merge(herd["one"], strategy="preserve", ignore_unreadable=True).done


@pytest.mark.parametrize("wrong", [{"strategy": "magic"}, {"keep": "everything"}])
def test_a_choice_that_there_is_not_is_refused_before_anything_is_done(herd, wrong):
    before = files(herd)
    with pytest.raises(InvalidRequest, match=r"magic|everything"):
        merge(herd["three"], **wrong)
    assert files(herd) == before


@pytest.mark.parametrize("up_to_date", [True, False])
def test_bitmaps_stand_against_a_merge_only_where_they_are_up_to_date(tmp_path, up_to_date):
    make_base(tmp_path / "base", CONTENT)
    overlay = make_overlay(tmp_path / "overlay", "base")
    write(overlay, "write -P 1 0 64k")
    qemu_img("bitmap", "--add", overlay, "backup")
    if not up_to_date:  # as a program leaves them that writes to the image and knows nothing of bitmaps
        with overlay.open("r+b") as file:
            file.seek(88)
            file.write(bytes(8))
    before = content(overlay)
    with pytest.raises(UnsupportedFeature, match="bitmaps") if up_to_date else contextlib.nullcontext():
        merge(overlay)
        assert content(tmp_path / "base") == before


@pytest.mark.parametrize(
    ("overlay", "options", "written"),
    [
        ("one", {"strategy": "preserve"}, ["base", "one", "other"]),
        ("one", {"strategy": "fork"}, ["one"]),
        ("two", {"strategy": "preserve", "into": "base"}, ["base", "two", "other"]),
    ],
    ids=["preserve", "fork", "deep"],
)
def test_nobody_opens_what_a_merge_writes_to(herd, monkeypatch, overlay, options, written):
    """QEMU is kept out by locks alone: whoever looks at processes looked before."""
    locked = []
    real = Offline.apply_down

    def trying_first(self, plan, *arguments):
        for name in written:
            with pytest.raises(ImageInUse), HostFile.open(herd[name], lock=READ):
                pass
            locked.append(name)
        real(self, plan, *arguments)

    monkeypatch.setattr(Offline, "apply_down", trying_first)
    merge(herd[overlay], **options | ({"into": herd["base"]} if "into" in options else {}))
    assert locked == written


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_base_may_have_more_overlays_than_a_process_may_have_files_open(tmp_path, strategy):
    make_base(tmp_path / "base", CONTENT)
    make_overlay(tmp_path / "overlay", "base")
    write(tmp_path / "overlay", "write -P 1 0 200k")
    siblings = [tmp_path / f"s{number}" for number in range(90)]
    make_overlay(siblings[0], "base")
    for sibling in siblings[1:]:
        shutil.copy(siblings[0], sibling)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 70, hard))
    try:
        done = merge(tmp_path / "overlay", strategy=strategy)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(done.plan.served) == (90 if strategy == "preserve" else 0)
    assert all(content(sibling) == CONTENT for sibling in siblings[::30])
