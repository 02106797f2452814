"""Commit, beside qemu-img commit on the same chains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageInUse, InvalidRequest, NotEnoughSpace
from cowherd.formats.qcow2.image import Qcow2
from cowherd.formats.reference import BackingReference
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.ops.commit import commit, plan_commit
from cowherd.ops.commit_target import find_base
from tests.images import KIB, MIB, Features
from tests.ops.chains import Chain, Member, is_empty
from tests.qemu import Tool
from tests.storage.hosts import loop_device, reflink_file_system

SMALL, MIDDLE, LARGE = 300 * KIB, MIB + 512, 3 * MIB - KIB
BASES = (None, Features(), Features(4 * KIB, version=2), Features(16 * KIB, extended_l2=True), Features(512, refcount_bits=1))
TOPS = (Features(), Features(4 * KIB), Features(16 * KIB, extended_l2=True), Features(2 * MIB), Features(compression="zstd"))


def pair(directory: Path, base: Features | None, top: Features, base_size: int = MIDDLE, top_size: int = MIDDLE) -> Chain:
    return Chain(directory / "chain", Member("base", base_size, base), Member("top", top_size, top, "base"))


@pytest.mark.parametrize("top", TOPS, ids=str)
@pytest.mark.parametrize("base", BASES, ids=str)
def test_both_tools_leave_the_same_base_and_overlay(tmp_path: Path, qemu_img: Tool, base: Features | None, top: Features):
    ours = pair(tmp_path, base, top)
    shown = ours.content("top")
    theirs = ours.copy("qemu")
    qemu_img("commit", "-q", "-f", "qcow2", theirs.top)
    done = commit(ours.top, format="qcow2")
    assert ours.content("base") == theirs.content("base") == shown
    assert ours.content("top") == shown
    assert done.emptied
    assert is_empty(ours.top)
    ours.assert_sound()


@pytest.mark.parametrize("base", BASES, ids=str)
def test_runs_that_the_kernel_copies_arrive_as_those_that_are_read(
    tmp_path: Path, qemu_img: Tool, monkeypatch: pytest.MonkeyPatch, base: Features | None
):
    monkeypatch.setattr("cowherd.ops.moves._LEAST_COPIED", 1)
    ours = pair(tmp_path, base, Features(4 * KIB))
    theirs, shown = ours.copy("qemu"), ours.content("top")
    qemu_img("commit", "-q", "-f", "qcow2", theirs.top)
    commit(ours.top, format="qcow2")
    assert ours.content("base") == theirs.content("base") == shown
    ours.assert_sound()


def test_long_runs_stay_out_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chain = Chain(tmp_path / "chain", Member("base", 4 * MIB), Member("top", 4 * MIB, Features(), "base"), requests=0)
    with open_disk(chain.top, format="qcow2", writable=True) as disk:
        disk.write(MIB, b"long" * (MIB // 4))
        disk.write(3 * MIB, b"short" * 100)
    read: list[int] = []
    original = Disk.read_extents
    monkeypatch.setattr(Disk, "read_extents", lambda *given: read.append(len(given[-1])) or original(*given))
    commit(chain.top, format="qcow2")
    monkeypatch.undo()
    assert sum(read) == 64 * KIB
    assert chain.content("base")[MIB : 2 * MIB] == b"long" * (MIB // 4)


@pytest.mark.parametrize("base", [None, Features(), Features(2 * MIB)], ids=str)
def test_with_reflink_base_and_overlay_share_what_was_committed(tmp_path_factory: pytest.TempPathFactory, base: Features | None):
    with reflink_file_system(tmp_path_factory.mktemp("commit")) as directory:
        chain = Chain(
            directory / "chain", Member("base", 12 * MIB, base), Member("top", 12 * MIB, Features(), "base"), requests=0
        )
        with open_disk(chain.top, format="qcow2", writable=True) as disk:
            disk.write(2 * MIB, os.urandom(8 * MIB))
        shown = chain.content("top")
        os.sync()
        before = os.statvfs(directory).f_bfree
        commit(chain.top, format="qcow2", keep_content=True)
        os.sync()
        used = (before - os.statvfs(directory).f_bfree) * os.statvfs(directory).f_frsize
        assert used < 5 * MIB
        assert chain.content("base") == chain.content("top") == shown
        with open_disk(chain.top, format="qcow2", writable=True) as disk:
            disk.write(4 * MIB, b"later")
        assert chain.content("base") == shown
        chain.assert_sound()


@pytest.mark.parametrize("base", [None, Features()], ids=str)
def test_too_little_room_is_found_out_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Features | None
):
    chain = pair(tmp_path, base, Features(), SMALL, LARGE)
    before = chain["base"].read_bytes(), chain.top.read_bytes()
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 1000)
    with pytest.raises(NotEnoughSpace) as refused:
        commit(chain.top, format="qcow2")
    assert refused.value.free == 1000
    assert (chain["base"].read_bytes(), chain.top.read_bytes()) == before


def test_what_the_base_has_a_place_for_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chain = Chain(tmp_path / "chain", Member("base", MIB), Member("top", MIB, Features(), "base"), requests=0)
    for name in ("base", "top"):
        with open_disk(chain[name], format="qcow2", writable=True) as disk:
            disk.write(0, name.encode() * 1000)
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 0)
    commit(chain.top, format="qcow2")
    assert chain.content("base").startswith(b"toptop")


def test_a_base_on_a_device_needs_no_room_where_the_devices_node_lies(
    tmp_path: Path, qemu_img: Tool, monkeypatch: pytest.MonkeyPatch
):
    backing, top = tmp_path / "device", tmp_path / "top"
    backing.write_bytes(bytes(8 * MIB))
    with loop_device(backing) as device:
        qemu_img("create", "-q", "-f", "qcow2", device, "4M")
        qemu_img("create", "-q", "-f", "qcow2", "-b", device, "-F", "qcow2", top)
        with open_disk(top, format="qcow2", writable=True) as disk:
            disk.write(MIB, b"down" * 100000)
        monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 0)
        commit(top, format="qcow2")
        with open_disk(device, format="qcow2") as disk:
            assert disk.read(MIB, 400000) == b"down" * 100000


@pytest.mark.parametrize("base", [None, Features(), Features(16 * KIB, extended_l2=True)], ids=str)
@pytest.mark.parametrize(("base_size", "top_size"), [(SMALL, LARGE), (LARGE, SMALL), (0, MIDDLE), (MIDDLE, 0), (0, 0)])
def test_sizes_may_differ(tmp_path: Path, qemu_img: Tool, base: Features | None, base_size: int, top_size: int):
    ours = pair(tmp_path, base, Features(4 * KIB), base_size, top_size)
    theirs, shown = ours.copy("qemu"), ours.content("top")
    qemu_img("commit", "-q", "-f", "qcow2", theirs.top)
    commit(ours.top, format="qcow2")
    assert ours.content("base") == theirs.content("base")
    assert len(ours.content("base")) == max(base_size, top_size)
    assert ours.content("top") == shown
    ours.assert_sound()


@pytest.mark.parametrize("middle_size", [SMALL, MIDDLE, LARGE])
@pytest.mark.parametrize("base", [None, Features(4 * KIB)], ids=str)
def test_into_a_deeper_base(tmp_path: Path, qemu_img: Tool, base: Features | None, middle_size: int):
    """A middle image that is shorter than the top shows zeros behind its end, which the base must get too."""
    ours = Chain(
        tmp_path / "chain",
        Member("base", LARGE, base),
        Member("middle", middle_size, Features(16 * KIB), "base"),
        Member("top", MIDDLE, Features(4 * KIB), "middle"),
    )
    theirs, shown, before = ours.copy("qemu"), ours.content("top"), ours.top.read_bytes()
    qemu_img("commit", "-q", "-f", "qcow2", "-b", "base", theirs.top)
    done = commit(ours.top, format="qcow2", base="base")
    assert ours.content("base") == theirs.content("base")
    assert ours.content("base")[:MIDDLE] == shown
    assert ours.content("top") == shown
    assert not done.emptied
    assert ours.top.read_bytes() == before
    ours.assert_sound()


def test_into_a_middle_image_hides_what_lies_under_it(tmp_path: Path, qemu_img: Tool):
    ours = Chain(
        tmp_path / "chain",
        Member("base", LARGE, Features()),
        Member("middle", SMALL, Features(4 * KIB), "base"),
        Member("top", MIDDLE, Features(), "middle"),
    )
    theirs, shown = ours.copy("qemu"), ours.content("top")
    qemu_img("commit", "-q", "-f", "qcow2", theirs.top)
    commit(ours.top, format="qcow2")
    for name in ("base", "middle", "top"):
        assert ours.content(name) == theirs.content(name)
    assert ours.content("middle") == shown
    ours.assert_sound()


def test_the_content_can_be_kept(tmp_path: Path, qemu_img: Tool):
    ours = pair(tmp_path, Features(), Features())
    before = ours.top.read_bytes()
    assert not commit(ours.top, format="qcow2", keep_content=True).emptied
    assert ours.top.read_bytes() == before
    assert ours.content("base") == ours.content("top")


def test_an_image_without_a_backing_file_is_refused_in_qemus_words(tmp_path: Path, qemu_img: Tool):
    chain = Chain(tmp_path / "chain", Member("alone", MIB))
    with pytest.raises(InvalidRequest) as caught:
        commit(chain.top, format="qcow2")
    assert f"qemu-img: {caught.value}\n" == qemu_img.run("commit", "-f", "qcow2", chain.top).stderr


def test_a_base_that_is_not_in_the_chain_is_refused_in_qemus_words(tmp_path: Path, qemu_img: Tool):
    chain = pair(tmp_path, Features(), Features())
    before = chain["base"].read_bytes()
    with pytest.raises(InvalidRequest) as caught:
        commit(chain.top, format="qcow2", base="other")
    assert f"qemu-img: {caught.value}\n" == qemu_img.run("commit", "-f", "qcow2", "-b", "other", chain.top).stderr
    assert chain["base"].read_bytes() == before


@pytest.mark.parametrize("name", ["base", "./base", "../chain/base", "ABSOLUTE", "FROM HERE", "LINK"])
def test_a_base_may_be_named_in_several_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    chain = pair(tmp_path, Features(), Features())
    (tmp_path / "link").symlink_to(chain["base"])
    monkeypatch.chdir(tmp_path)
    names = {"ABSOLUTE": str(chain["base"]), "FROM HERE": "chain/base", "LINK": str(tmp_path / "link")}
    with open_disk("chain/top", format="qcow2") as disk:
        assert find_base(disk.layers, names.get(name, name)) == 1


def test_the_plan_names_only_what_lies_above_the_base(tmp_path: Path):
    chain = Chain(tmp_path / "chain", Member("base", MIB), Member("top", MIB, Features(), "base"), requests=0)
    with open_disk(chain.top, format="qcow2", writable=True) as disk:
        disk.write(64 * KIB, b"x" * (128 * KIB))
        disk.zero(512 * KIB, 64 * KIB)
    with open_disk(chain.top, format="qcow2") as disk, open_disk(chain["base"], format="qcow2") as base:
        plan = plan_commit(Disk(disk.layers[:1], writable=False), base)
    assert plan.copy.tolist() == [[64 * KIB, 192 * KIB]]
    assert plan.zero.tolist() == [[512 * KIB, 576 * KIB]]
    assert plan.files_changed == (chain["base"],)


def test_the_base_is_durable_before_the_overlay_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chain = pair(tmp_path, Features(), Features(4 * KIB))
    shown, before = chain.content("top"), chain.top.read_bytes()

    def crash(image: Qcow2) -> None:
        assert chain.copy("crashed").content("base") == shown  # a copy, because the base is still locked
        raise KeyboardInterrupt

    monkeypatch.setattr(Qcow2, "deallocate_all", crash)
    with pytest.raises(KeyboardInterrupt):
        commit(chain.top, format="qcow2")
    assert chain.top.read_bytes() == before
    monkeypatch.undo()
    commit(chain.top, format="qcow2")
    assert is_empty(chain.top)
    assert chain.content("base") == chain.content("top") == shown


@pytest.mark.parametrize("base", [None, Features()], ids=str)
def test_a_full_disk_leaves_what_the_overlay_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Features | None):
    chain = pair(tmp_path, base, Features(4 * KIB))
    shown = chain.content("top")
    original, calls = Disk.write, 0

    def failing(disk: Disk, offset: int, data: memoryview) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise HostFileError(disk.path, "write", OSError(28, os.strerror(28)))
        original(disk, offset, data)

    monkeypatch.setattr(Disk, "write", failing)
    with pytest.raises(HostFileError):
        commit(chain.top, format="qcow2")
    monkeypatch.undo()
    assert not is_empty(chain.top)
    assert chain.content("top") == shown
    chain.assert_sound()


def test_a_base_in_use_is_left_alone(tmp_path: Path):
    chain = pair(tmp_path, Features(), Features())
    before = chain["base"].read_bytes()
    with open_disk(chain["base"], format="qcow2"), pytest.raises(ImageInUse):
        commit(chain.top, format="qcow2")
    assert chain["base"].read_bytes() == before
    assert not is_empty(chain.top)


def test_progress_rises_to_the_total(tmp_path: Path):
    chain = Chain(tmp_path / "chain", Member("base", 16 * MIB), Member("top", 16 * MIB, Features(), "base"), requests=0)
    with open_disk(chain.top, format="qcow2", writable=True) as disk:
        disk.write(MIB, b"x" * (10 * MIB))
    calls: list[tuple[int, int]] = []
    commit(chain.top, format="qcow2", progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {10 * MIB}
    assert calls[-1] == (10 * MIB, 10 * MIB)
    assert len(calls) > 3


def test_an_empty_overlay_changes_nothing(tmp_path: Path):
    chain = Chain(tmp_path / "chain", Member("base", MIB), Member("top", MIB, Features(), "base"), requests=0)
    before = chain["base"].read_bytes()
    assert commit(chain.top, format="qcow2").plan.files_changed == ()
    assert chain["base"].read_bytes() == before


def test_a_json_name_of_the_base_is_followed(tmp_path: Path):
    chain = pair(tmp_path, Features(), Features())
    shown = chain.content("top")
    name = f'json:{{"driver": "qcow2", "file": {{"driver": "file", "filename": "{chain["base"]}"}}}}'
    with open_disk(chain.top, format="qcow2", writable=True, backing=False) as disk:
        disk.set_backing(BackingReference(name, "qcow2"))
    commit(chain.top, format="qcow2", base=name)
    assert chain.content("base") == shown
