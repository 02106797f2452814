from __future__ import annotations

import os
import stat

import pytest

from cowherd.errors import BaseSealed, HostFileError, ImageInUse
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.promote import promote
from cowherd.herd.records.faults import DriftFound
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.ops.convert import convert as converting
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ
from cowherd.storage.protection import Protection
from tests.herd.killing import killed_before_change
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(MIB)


@pytest.fixture
def herd(tmp_path):
    """A sealed base with a machine's disk on it, which has written."""
    make_base(tmp_path / "base", CONTENT)
    clone(tmp_path / "base", tmp_path / "disk", size=2 * MIB)
    write(tmp_path / "disk", "write -P 2 100k 64k")
    (tmp_path / "disk").chmod(0o600)
    (tmp_path / "bases").mkdir()
    return tmp_path


def fine(herd) -> bool:
    return all(row.status.value in ("ok", "unsealed") for row in verify(herd=[herd]))


def test_a_copy_stands_alone_sealed_and_readonly_and_the_disk_stays_as_it_is(herd):
    before, disk = content(herd / "disk"), (herd / "disk").read_bytes()
    done = promote(herd / "disk", herd / "bases" / "golden")
    assert content(done.base) == before
    assert "backing file" not in qemu_img("info", done.base)
    assert (herd / "disk").read_bytes() == disk
    assert done.base.stat().st_mode & 0o777 == 0o400  # nobody reads it who could not read the disk
    assert done.overlay is None
    assert fine(herd)
    qemu_img("check", done.base)


def test_a_copy_can_be_compressed(herd):
    (herd / "disk").write_bytes(b"")
    make_base(herd / "text", b"a line of text\n" * 70000)
    before = content(herd / "text")
    done = promote(herd / "text", herd / "golden", compress=True)
    assert content(done.base) == before
    assert done.base.stat().st_size < 500_000


def test_chained_the_file_becomes_the_base_and_the_machine_goes_on_over_it(herd):
    before, inode = content(herd / "disk"), (herd / "disk").stat().st_ino
    done = promote(herd / "disk", herd / "bases" / "golden", chained=True)
    assert done.base.stat().st_ino == inode
    assert content(done.base) == content(herd / "disk") == before
    assert "bases/golden" in qemu_img("info", herd / "disk")
    assert (herd / "disk").stat().st_mode & 0o777 == 0o600
    assert fine(herd)
    write(herd / "disk", "write -P 9 0 64k")
    assert content(done.base) == before


@pytest.mark.parametrize("name", ["a", "z"])
def test_chained_in_one_directory_under_whatever_name(herd, name):
    before = content(herd / "disk")
    promote(herd / "disk", herd / name, chained=True)
    assert content(herd / "disk") == content(herd / name) == before
    assert (herd / f"{name}.seal").exists()
    assert not (herd / "disk.seal").exists()
    assert fine(herd)


def test_chained_what_stood_on_the_disk_stands_on_the_base(herd):
    make_overlay(herd / "top", "disk")
    before = content(herd / "top")
    promote(herd / "disk", herd / "bases" / "golden", chained=True)
    write(herd / "disk", "write -P 9 0 64k")
    assert content(herd / "top") == before
    assert {row.path.name: row.detail for row in verify([herd / "top"])}["top"] == ""
    assert fine(herd)


def test_chained_and_immutable(herd):
    done = promote(herd / "disk", herd / "golden", chained=True, level=Protection.IMMUTABLE)
    try:
        assert fine(herd)
        assert content(herd / "disk") == content(done.base)
    finally:
        seal(done.base, level=Protection.RECORDED)


@pytest.mark.parametrize("chained", [False, True])
def test_what_is_there_is_not_replaced(herd, chained):
    (herd / "golden").write_bytes(b"precious")
    with pytest.raises(HostFileError):
        promote(herd / "disk", herd / "golden", chained=chained)
    assert (herd / "golden").read_bytes() == b"precious"


def test_a_disk_in_use_is_refused(herd):
    with HostFile.open(herd / "disk", lock=READ), pytest.raises(ImageInUse):
        promote(herd / "disk", herd / "golden", chained=True)
    assert not (herd / "golden").exists()


def test_a_sealed_disk_can_be_copied_and_not_chained(herd):
    seal(herd / "disk")
    with pytest.raises(BaseSealed):
        promote(herd / "disk", herd / "golden", chained=True)
    promote(herd / "disk", herd / "golden")


def test_drift_below_is_not_made_into_a_base(herd):
    write(herd / "base", "write -P 3 0 64k")
    with pytest.raises(DriftFound):
        promote(herd / "disk", herd / "golden")


def test_a_failed_copy_leaves_nothing(herd, monkeypatch):
    from cowherd.herd.overlays import promote as module

    monkeypatch.setattr(module, "give_name", lambda *_: (_ for _ in ()).throw(HostFileError("x", "link", OSError(5, "failed"))))
    with pytest.raises(HostFileError):
        promote(herd / "disk", herd / "golden")
    assert sorted(path.name for path in herd.iterdir()) == ["base", "base.seal", "bases", "disk"]


def test_killed_before_any_change_the_disk_shows_the_same_and_a_chain_is_finished(herd):
    before, number = content(herd / "disk"), 0
    make_overlay(herd / "top", "disk")
    while killed_before_change(number, lambda n=number: promote(herd / "disk", herd / "bases" / f"g{n}", chained=True)):
        assert content(herd / "disk") == content(herd / "top") == before, f"killed before change {number}"
        golden = herd / "bases" / f"g{number}"
        if golden.exists() and golden.samefile(herd / "disk"):
            promote(herd / "disk", golden, chained=True)
        elif golden.exists():
            seal(golden, level=Protection.READONLY, bind=True)
        assert content(herd / "disk") == content(herd / "top") == before
        write(herd / "disk", "write -P 2 100k 64k")  # what is there already: the base must not see it
        assert content(golden if golden.exists() else herd / "disk") == before
        number += 1
    assert number > 8
    assert content(herd / "disk") == content(herd / "top") == before


@pytest.mark.parametrize("chained", [True, False], ids=["chained", "copied"])
def test_killed_before_any_change_it_can_be_given_again(herd, chained):
    before, number = content(herd / "disk"), 0
    while killed_before_change(number, lambda n=number: promote(herd / "disk", herd / "bases" / f"g{n}", chained=chained)):
        golden = herd / "bases" / f"g{number}"
        done = promote(herd / "disk", golden, chained=chained)
        assert done.sealed.record.level is Protection.READONLY
        assert content(golden) == content(herd / "disk") == before, f"killed before change {number}"
        assert fine(herd)
        number += 1
    assert number > 5


@pytest.mark.parametrize(("mode", "of_base"), [(0o600, 0o400), (0o644, 0o444)])
def test_a_copy_is_as_readable_as_the_disk(herd, mode, of_base):
    (herd / "disk").chmod(mode)
    done = promote(herd / "disk", herd / "golden")
    assert done.base.stat().st_mode & 0o777 == done.sealed.seal.stat().st_mode & 0o777 == of_base


def test_while_it_is_made_a_copy_is_its_maker_s_alone(herd, monkeypatch):
    seen = []
    real = converting.convert

    def looking(source, target, **options):
        seen.append(stat.S_IMODE(os.stat(target).st_mode))
        real(source, target, **options)
        seen.append(stat.S_IMODE(os.stat(target).st_mode))

    monkeypatch.setattr(converting, "convert", looking)
    (herd / "disk").chmod(0o644)
    promote(herd / "disk", herd / "golden")
    assert seen == [0o600, 0o600]
    assert (herd / "golden").stat().st_mode & 0o777 == 0o444
