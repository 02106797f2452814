from __future__ import annotations

import pytest

from cowherd.errors import BackingFileError, ImageInUse, NotEnoughSpace, SnapshotsWouldChange
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.flatten import flatten
from cowherd.herd.records.binding import read_binding
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import content, killed_after, make_base, make_overlay, noise, qemu_img, write
from tests.snapshots import shown

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(2 * MIB)


@pytest.fixture
def herd(tmp_path):
    """base <- o <- p; o is larger than base, and has written."""
    make_base(tmp_path / "base", CONTENT)
    clone(tmp_path / "base", tmp_path / "o", size=3 * MIB)
    write(tmp_path / "o", "write -P 9 100k 300k", "write -z 1M 64k")
    make_overlay(tmp_path / "p", "o")
    write(tmp_path / "p", "write -P 5 0 64k")
    return tmp_path


def test_it_stands_alone_and_shows_the_same(herd):
    before = content(herd / "o"), content(herd / "p")
    done = flatten(herd / "o")
    assert (done.base, done.done) == (None, True)
    (herd / "base").unlink()
    (herd / "base.seal").unlink()
    assert (content(herd / "o"), content(herd / "p")) == before
    assert read_binding(herd / "o") is None
    qemu_img("check", herd / "o")


def test_a_dry_run_tells_the_bytes_and_changes_nothing(herd):
    before = (herd / "o").read_bytes()
    done = flatten(herd / "o", dry_run=True)
    assert (done.done, done.base) == (False, herd / "base")
    assert (herd / "o").read_bytes() == before
    assert flatten(herd / "o").written_bytes <= done.written_bytes < 2 * MIB


def test_an_image_without_a_base_is_left_alone(herd):
    before = (herd / "base").read_bytes()
    assert flatten(herd / "base").written_bytes == 0
    assert (herd / "base").read_bytes() == before


def test_seals_of_it_and_of_what_stands_on_it_go_on_to_hold(herd):
    seal(herd / "o", level=Protection.READONLY, bind=True)
    seal(herd / "p")
    flatten(herd / "o")
    assert {row.status.value for row in verify(herd=[herd])} == {"ok"}
    assert {row.status.value for row in verify(herd=[herd], full=True)} == {"ok"}
    assert (herd / "o").stat().st_mode & 0o222 == 0


def test_it_is_refused_while_something_has_it_open(herd):
    with HostFile.open(herd / "o", lock=READ), pytest.raises(ImageInUse) as caught:
        flatten(herd / "o")
    assert caught.value.holders


def test_it_is_refused_without_space_before_anything_is_written(herd, monkeypatch):
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 1000)
    before = (herd / "o").read_bytes()
    with pytest.raises(NotEnoughSpace):
        flatten(herd / "o")
    assert (herd / "o").read_bytes() == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_image_is_refused_for_a_snapshot_that_shows_its_base(herd, dry_run):
    qemu_img("snapshot", "-c", "s", herd / "p")
    write(herd / "p", "write -P 6 64k 64k")
    before = (herd / "p").read_bytes()
    with pytest.raises(SnapshotsWouldChange, match=r"'s' of .*p"):
        flatten(herd / "p", dry_run=dry_run)
    assert (herd / "p").read_bytes() == before


def test_a_snapshot_that_holds_everything_itself_is_not_in_the_way(herd):
    write(herd / "p", "write -P 6 0 3M")
    qemu_img("snapshot", "-c", "s", herd / "p")
    write(herd / "p", "write -P 7 0 3M")
    flatten(herd / "p")
    (herd / "o").unlink()
    assert shown(herd / "p", "s") == b"\6" * 3 * MIB
    assert content(herd / "p") == b"\7" * 3 * MIB


def test_snapshots_of_what_stands_on_it_show_the_same(herd):
    qemu_img("snapshot", "-c", "s", herd / "p")
    write(herd / "p", "write -P 6 64k 64k")
    before = shown(herd / "p", "s")
    flatten(herd / "o")
    assert shown(herd / "p", "s") == before


def test_a_lost_base_is_named(herd):
    (herd / "base").unlink()
    with pytest.raises(BackingFileError):
        flatten(herd / "o")


@pytest.mark.parametrize("writes", [1, 3, 5])
def test_killed_it_shows_the_same_and_can_be_run_again(herd, writes):
    before = content(herd / "o"), content(herd / "p")
    killed_after(writes, lambda: flatten(herd / "o"))
    assert (content(herd / "o"), content(herd / "p")) == before
    assert flatten(herd / "o").done
    assert (content(herd / "o"), content(herd / "p")) == before
