"""Looking through directories, alone and with a process that goes ahead."""

from __future__ import annotations

import os
import signal
from multiprocessing import active_children
from pathlib import Path

import pytest

from cowherd.herd.lineage import listing, listing_ahead
from cowherd.herd.lineage import walk as walking
from cowherd.herd.lineage.listing_ahead import ListingAhead
from cowherd.herd.lineage.walk import Listing, walk


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Directories of all kinds: empty, deep, with links, with what is left out, and with a name that is not UTF-8."""
    for number in range(40):
        directory = tmp_path / f"{number % 7}" / f"{number:02}"
        directory.mkdir(parents=True)
        for name in range(number % 5):
            (directory / f"file{name}").write_bytes(bytes(number))
    (tmp_path / "0" / ".cowherd-trash").mkdir()
    (tmp_path / "0" / ".cowherd-trash" / "gone").write_bytes(b"x")
    (tmp_path / "1" / "link").symlink_to(tmp_path / "4" / "04" / "file0")
    (tmp_path / "1" / "loop").symlink_to("loop")
    (tmp_path / "2" / os.fsdecode(b"\xff")).mkdir()
    (tmp_path / "2" / os.fsdecode(b"\xff") / os.fsdecode(b"\xfe")).write_bytes(b"y")
    return tmp_path


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process is worth its start from the third file on."""
    monkeypatch.setattr(walking, "_MANY", 3)
    monkeypatch.setattr(listing_ahead, "active_count", lambda: 1)


def _all(directory: Path, levels: int | None = None) -> tuple[list[Listing], list[Path]]:
    unreadable: list[Path] = []
    return list(walk(str(directory), levels, unreadable)), unreadable


@pytest.mark.parametrize("levels", [None, 0, 1])
def test_with_a_process_that_goes_ahead_the_same_is_found_in_the_same_order(tree, monkeypatch, levels):
    alone = _all(tree, levels)
    monkeypatch.setattr(walking, "_MANY", 3)
    monkeypatch.setattr(listing_ahead, "active_count", lambda: 1)
    assert _all(tree, levels) == alone
    if levels is None:
        assert sum(len(listing.files) for listing in alone[0]) == sum(number % 5 for number in range(40)) + 2


@pytest.mark.usefixtures("early")
def test_what_the_process_cannot_list_is_unreadable(tree, monkeypatch):
    real = listing.list_directory

    def refused(directory: str, device: int | None):
        if directory.endswith("/27"):
            raise PermissionError
        return real(directory, device)

    monkeypatch.setattr(listing, "list_directory", refused)
    listings, unreadable = _all(tree)
    assert unreadable == [tree / "6" / "27"]
    assert len(listings) == 1 + 7 + 40


@pytest.mark.usefixtures("early")
def test_the_walk_goes_on_alone_if_somebody_kills_the_process(tree, monkeypatch):
    expected = _all(tree)
    real, mine = listing.list_directory, os.getpid()

    def deadly(directory: str, device: int | None):
        if directory.endswith("/22") and os.getpid() != mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(directory, device)

    monkeypatch.setattr(listing, "list_directory", deadly)
    assert _all(tree) == expected


@pytest.mark.usefixtures("early")
def test_who_stops_looking_leaves_no_process_behind(tree):
    listings = walk(str(tree), None, [])
    for _ in range(20):
        next(listings)
    assert active_children()
    listings.close()
    assert not active_children()


def test_a_process_with_threads_is_not_forked(tree, monkeypatch):
    monkeypatch.setattr(walking, "_MANY", 3)
    monkeypatch.setattr(listing_ahead, "active_count", lambda: 2)
    monkeypatch.setattr(ListingAhead, "__init__", None)
    assert _all(tree)[1] == []


def test_the_trash_is_not_entered(tree):
    assert not [listing.directory for listing in _all(tree)[0] if ".cowherd-trash" in listing.directory]


def test_another_file_system_is_not_entered(tree):
    way = listing.PendingDirectories([(str(tree), 0)], None, device=-1)
    assert way.look().below == []
