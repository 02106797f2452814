"""Chains made to lead astray: endless ones, names that lead to what is no file, links that change between two looks."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

import cowherd
from cowherd.errors import BackingFileError, CowherdError
from cowherd.image.chain import MAX_CHAIN
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from cowherd.ops.info import BackingLoop, chain_info
from cowherd.storage import hostfile
from tests.reliability.calls import interposed

JOBS: dict[str, Callable[[Path], object]] = {
    "open": lambda path: open_disk(path, format="qcow2").close(),
    "convert": lambda path: cowherd.convert(path, path.with_name("copy"), source_format="qcow2"),
    "measure": lambda path: cowherd.measure(path, source_format="qcow2", target_format="raw"),
    "compare": lambda path: cowherd.compare(path, path, format_a="qcow2", format_b="qcow2"),
    "commit": lambda path: cowherd.commit(path, format="qcow2"),
}


def _overlay(path: Path, backing: Path | str, backing_format: str = "qcow2") -> Path:
    create(path, 1 << 20, backing=str(backing), backing_format=backing_format, unsafe=True)
    return path


def _chain(folder: Path, length: int) -> Path:
    """Makes `length` images, each the overlay of the one before."""
    create(folder / "0", 1 << 20)
    for number in range(1, length):
        _overlay(folder / str(number), str(number - 1))
    return folder / str(length - 1)


@pytest.mark.parametrize("job", JOBS)
def test_a_loop_ends_with_an_error(job: str, tmp_path: Path):
    for number in range(3):
        _overlay(tmp_path / str(number), str((number + 1) % 3))
    with pytest.raises(BackingFileError, match="loop"):
        JOBS[job](tmp_path / "0")
    with pytest.raises(BackingLoop):
        chain_info(tmp_path / "0")


@pytest.mark.parametrize("job", JOBS)
def test_a_chain_that_is_too_long_ends_with_an_error(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cowherd.image.chain.MAX_CHAIN", 30)
    top = _chain(tmp_path, 40)
    with pytest.raises(BackingFileError, match="longer than 30 images"):
        JOBS[job](top)
    assert len(chain_info(top)) == 40  # which opens one after the other
    assert MAX_CHAIN == 1024


def test_a_chain_with_more_files_than_may_be_open_is_an_error_that_says_so(tmp_path: Path):
    top = _chain(tmp_path, 80)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        with pytest.raises(BackingFileError, match="Too many open files"):
            open_disk(top, format="qcow2")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == used


@pytest.mark.parametrize("target", ["fifo", "/dev/zero", "/dev/tty", "."])
def test_a_name_that_leads_to_no_image_is_refused_without_waiting(target: str, tmp_path: Path):
    if target == "fifo":
        os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(target)
    for backing in ("link", str(tmp_path / "link")):
        with pytest.raises(CowherdError):
            open_disk(_overlay(tmp_path / "overlay", backing, "raw"), format="qcow2")
    with pytest.raises(CowherdError):
        open_disk(tmp_path / "link", format="raw")


def test_a_link_that_becomes_a_pipe_after_it_was_looked_at_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "image").write_bytes(bytes(4096))
    os.mkfifo(tmp_path / "fifo")
    link = tmp_path / "link"
    link.symlink_to("image")
    monkeypatch.setattr(hostfile, "refuse_other_than_images", lambda path, action: _swap(link, "fifo"))
    with pytest.raises(CowherdError, match="not a regular file"):
        open_disk(link, format="raw")


@pytest.mark.parametrize("which", ["image", "base"])
def test_a_link_that_is_swapped_after_the_opening_changes_nothing(which: str, tmp_path: Path):
    (tmp_path / "good").write_bytes(b"good" * 1024)
    (tmp_path / "evil").write_bytes(b"evil" * 1024)
    link = tmp_path / "link"
    link.symlink_to("good")
    path = link if which == "image" else _overlay(tmp_path / "overlay", "link", "raw")
    with open_disk(path, format="raw" if which == "image" else "qcow2") as disk:
        _swap(link, "evil")
        assert disk.read(0, 8) == b"goodgood"
        assert len(list(disk.extents())) == 1


SIDES = {"good": (b"g", 65536, 1 << 20), "evil": (b"e", 4096, 3 << 20)}
"""Two images for each name: what they hold, the size of their clusters, their virtual size."""


def _two_faced(folder: Path) -> Path:
    """Makes a chain of three whose names are links, each to a file of either side; returns the top's name."""
    for name, under in (("base", None), ("middle", "base"), ("top", "middle")):
        for side, (byte, cluster, size) in SIDES.items():
            options = {"cluster_size": str(cluster)}
            path = folder / f"{name}.{side}"
            create(path, size, options=options, backing=under, backing_format="qcow2" if under else None, unsafe=True)
            with open_disk(path, format="qcow2", writable=True, backing=False) as disk:
                disk.write(65536 * ("base", "middle", "top").index(name), byte * 65536)
        (folder / name).symlink_to(f"{name}.good")
    return folder / "top"


def _read(top: Path) -> set[tuple[int, int]]:
    """Reads what each image of the chain holds; returns nothing, as the whole shows only the size of one."""
    with open_disk(top, format="qcow2") as disk:
        for index in range(3):
            part = disk.read(65536 * index, 65536)
            assert part in (b"g" * 65536, b"e" * 65536)
        assert disk.size in {size for _, _, size in SIDES.values()}
    return set()


def _told(top: Path) -> set[tuple[int, int]]:
    infos = chain_info(top, format="qcow2")
    assert len(infos) == 3
    return {(info.cluster_size or 0, info.virtual_size) for info in infos}


@pytest.mark.parametrize("target", ["evil", "fifo"])
@pytest.mark.parametrize("look", [_read, _told])
def test_links_that_are_swapped_at_any_step_mix_no_two_files(look: Callable[[Path], set], target: str, tmp_path: Path):
    top = _two_faced(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    calls = steps = refused = 0

    def swapping(_: str, call: Callable[..., object], arguments: tuple[object, ...], options: dict[str, object]) -> object:
        nonlocal calls
        calls += 1
        if calls == steps:
            for name in ("base", "middle", "top"):
                _swap(tmp_path / name, "fifo" if target == "fifo" else f"{name}.evil")
        return call(*arguments, **options)

    while calls >= steps:
        steps, calls = steps + 1, 0
        for name in ("base", "middle", "top"):
            _swap(tmp_path / name, f"{name}.good")
        try:
            with interposed(swapping):
                assert look(top) <= {(cluster, size) for _, cluster, size in SIDES.values()}
        except CowherdError:
            refused += 1
    assert steps > 10
    assert (refused > 0) == (target == "fifo")


def test_an_inspection_is_of_the_file_that_the_name_led_to_then(tmp_path: Path):
    create(tmp_path / "sound", 1 << 20)
    _overlay(tmp_path / "evil", "/nowhere", "raw")
    link = tmp_path / "link"
    link.symlink_to("sound")
    inspected = cowherd.inspect(link, format="qcow2")
    _swap(link, "evil")
    assert inspected.safe
    assert not cowherd.inspect(link, format="qcow2").safe


def _swap(link: Path, target: str) -> None:
    """Makes a link lead elsewhere in one step, as an attacker would."""
    other = link.with_name("other")
    other.unlink(missing_ok=True)
    other.symlink_to(target)
    other.rename(link)
