"""Whatever command puts a file in another one's place, or copies it: its owner and rights follow, or it says which did not."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cowherd
from cowherd.cli.guard.main import main
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.repair import rebuild as rebuilding
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.trash.trash import restore, trash
from cowherd.storage.attributes import ACCESS_LIST
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import make_overlay, qemu_img, write
from tests.storage.hosts import NOBODY, as_nobody, require_root
from tests.storage.test_attributes import LIST

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path: Path) -> Path:
    """A directory with a base, and a disk of user 1234 on it that user 107 may use by an access list, and its group may not."""
    require_root()
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", 2 * MIB)
    write(tmp_path / "base.qcow2", "write -P 1 0 1M")
    dress(make_overlay(tmp_path / "vm.qcow2", tmp_path / "base.qcow2"))
    write(tmp_path / "vm.qcow2", "write -P 5 64k 64k")
    return tmp_path


def dress(path: Path) -> Path:
    """Gives a file an owner, a list and an attribute."""
    os.chown(path, 1234, 1235)
    path.chmod(0o660)
    try:
        os.setxattr(path, ACCESS_LIST, LIST)
        os.setxattr(path, "trusted.note", b"web01")
    except OSError as error:
        pytest.skip(f"no access lists here: {error}")
    return path


def is_dressed(path: Path, *, mode: int = 0o660, all_attributes: bool = True) -> bool:
    """Whether it has all that."""
    info = path.stat()
    access = os.getxattr(path, ACCESS_LIST)
    group = struct_of_group(access)
    note = "trusted.note" in os.listxattr(path)
    return (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), group) == (1234, 1235, mode, 0) and (note or not all_attributes)


def struct_of_group(access: bytes) -> int:
    """What the list says of the owning group."""
    entries = [access[at : at + 8] for at in range(4, len(access), 8)]
    return next(int.from_bytes(entry[2:4], "little") for entry in entries if entry[0] == 4)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system."""
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK) or place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system to copy to")
    directory = place / f"cowherd-herd-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def test_move_to_another_file_system(herd: Path, elsewhere: Path):
    os.utime(herd / "vm.qcow2", ns=(10**18, 10**18))
    move(herd / "vm.qcow2", elsewhere / "vm.qcow2")
    assert is_dressed(elsewhere / "vm.qcow2")
    assert not (herd / "vm.qcow2").exists()


def test_move_of_a_sealed_base_to_another_file_system(herd: Path, elsewhere: Path):
    seal(dress(herd / "base.qcow2"), level=Protection.READONLY)
    move(herd / "base.qcow2", elsewhere)
    assert is_dressed(elsewhere / "base.qcow2", mode=0o440)


def test_promote_copies_them(herd: Path):
    promote(herd / "vm.qcow2", herd / "golden.qcow2", level=Protection.RECORDED)
    assert is_dressed(herd / "golden.qcow2")


def test_a_copy_of_a_private_disk_is_private(herd: Path):
    os.removexattr(herd / "vm.qcow2", ACCESS_LIST)
    (herd / "vm.qcow2").chmod(0o600)
    promote(herd / "vm.qcow2", herd / "golden.qcow2")
    assert stat.S_IMODE((herd / "golden.qcow2").stat().st_mode) == 0o400


def test_promote_chained_gives_them_to_the_new_overlay(herd: Path):
    promote(herd / "vm.qcow2", herd / "golden.qcow2", chained=True)
    assert is_dressed(herd / "vm.qcow2")
    assert is_dressed(herd / "golden.qcow2", mode=0o440)


def test_the_new_base_of_a_merge_is_like_the_old_one(herd: Path):
    seal(dress(herd / "base.qcow2"), level=Protection.READONLY)
    make_overlay(herd / "two.qcow2", herd / "vm.qcow2")
    merged = merge(herd / "vm.qcow2", strategy="fork", new_base=herd / "new.qcow2")
    assert merged.plan.strategy == "fork"
    assert is_dressed(herd / "new.qcow2", mode=0o440)


def test_a_base_that_is_made_anew_belongs_to_whom_it_did(herd: Path, tmp_path_factory: pytest.TempPathFactory):
    base = dress(herd / "base.qcow2")
    seal(base)
    donor = tmp_path_factory.mktemp("donor") / "copy.qcow2"
    shutil.copy(base, donor)
    base.unlink()
    repair(base, donors=[donor])
    assert is_dressed(base, all_attributes=False)


def test_a_seal_that_somebody_else_wrote_gives_nobody_the_base(herd: Path, tmp_path_factory: pytest.TempPathFactory):
    base = dress(herd / "base.qcow2")
    seal(base)
    donor = tmp_path_factory.mktemp("donor") / "copy.qcow2"
    shutil.copy(base, donor)
    base.unlink()
    os.chown(herd / "base.qcow2.seal", 4000, 4000)
    repair(base, donors=[donor])
    assert (base.stat().st_uid, base.stat().st_gid) == (os.geteuid(), os.getegid())


def test_a_rebuilt_base_whose_seal_tells_nothing_is_said(herd: Path, tmp_path_factory, capsys, monkeypatch):
    base = herd / "base.qcow2"
    seal(base)
    donor = tmp_path_factory.mktemp("donor") / "copy.qcow2"
    shutil.copy(base, donor)
    base.unlink()
    real = rebuilding.read_digests
    monkeypatch.setattr(rebuilding, "read_digests", lambda path: ((found := real(path))[0]._replace(attributes=None), found[1]))
    assert main(["repair", "--json", "--from", str(donor), str(base)]) == 0
    printed = capsys.readouterr()
    assert "could not be given its owner" in printed.err
    assert json.loads(printed.out)["not_given"][0]["path"] == str(base)


def test_trash_and_restore(herd: Path):
    trash([herd / "vm.qcow2"])
    restore(herd / "vm.qcow2")
    assert is_dressed(herd / "vm.qcow2")


CHANGES: dict[str, Callable[[Path], object]] = {
    "create over it": lambda disk: cowherd.create(disk, MIB),
    "convert over it": lambda disk: cowherd.convert(
        disk.with_name("base.qcow2"), disk, source_format="qcow2", target_format="qcow2"
    ),
    "raw over it": lambda disk: cowherd.convert(disk.with_name("base.qcow2"), disk, source_format="qcow2"),
    "commit": cowherd.commit,
    "rebase": lambda disk: cowherd.rebase(disk, None),
    "resize": lambda disk: cowherd.resize(disk, 4 * MIB, format="qcow2"),
    "seal and unseal": lambda disk: (cowherd.seal(disk, level=Protection.READONLY), cowherd.unseal(disk)),
}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_what_is_changed_in_its_place_keeps_them(herd: Path, change: str):
    CHANGES[change](herd / "vm.qcow2")
    assert is_dressed(herd / "vm.qcow2")


def test_a_user_who_may_not_give_files_away_is_told(elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    require_root()
    monkeypatch.setenv("COWHERD_CATALOG", "off")
    disk = elsewhere / "vm.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", disk, MIB)
    os.chown(disk, 1234, 1235)
    disk.chmod(0o664)
    promote(disk, elsewhere / "warm.qcow2")  # all modules are loaded while they may be read
    with as_nobody(elsewhere):
        code = main(["promote", "--level", "recorded", "vm.qcow2", "golden.qcow2"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "could not be given the owner 1234" in printed.err
    assert "could not be given the group 1235" in printed.err
    info = (elsewhere / "golden.qcow2").stat()
    assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (NOBODY, 0o604)
