"""An administrator, or Proxmox, made a file immutable: that is not cowherd's to take away."""

from __future__ import annotations

import subprocess

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.overlays.retarget import retarget
from cowherd.herd.records.faults import ProtectedByOthers
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.sealplace import is_sealed
from cowherd.herd.records.sealwriting import write_seal
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.trash.trash import empty_trash, purge, restore, trash
from cowherd.storage import protection
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write
from tests.storage.hosts import require_root, run

pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(1 << 18)


@pytest.fixture
def base(tmp_path):
    require_root()
    base = make_base(tmp_path / "base", CONTENT)
    if subprocess.run(["chattr", "+i", base], check=False, capture_output=True).returncode:
        pytest.skip("no immutable files here")
    yield base
    subprocess.run(["chattr", "-R", "-i", tmp_path], check=False, capture_output=True)


def is_immutable(path) -> bool:
    return "i" in run("lsattr", path).split()[0]


@pytest.mark.parametrize("level", list(Protection))
@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_a_seal_that_comes_and_goes_leaves_it_as_it_was(base, level, mode):
    run("chattr", "-i", base)
    base.chmod(mode)
    run("chattr", "+i", base)
    seal(base, level=level)
    seal(base, level=Protection.READONLY)
    seal(base, level=Protection.RECORDED)
    unseal(base)
    assert is_immutable(base)
    assert base.stat().st_mode & 0o777 == mode


def test_one_that_was_given_after_sealing_is_not_taken_away_either(base):
    run("chattr", "-i", base)
    seal(base, level=Protection.READONLY)
    run("chattr", "+i", base)
    with pytest.raises(ProtectedByOthers):
        unseal(base)
    assert is_sealed(base)
    unseal(base, force=True)
    assert is_immutable(base)


def test_cowherd_s_own_is_taken_away_also_where_an_older_seal_tells_of_it(base):
    run("chattr", "-i", base)
    done = seal(base, level=Protection.IMMUTABLE)
    assert is_immutable(base)
    assert not done.record.immutable_before
    write_seal(done.seal, *read_digests(done.seal))
    unseal(base)
    assert not is_immutable(base)
    assert base.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda base: trash([base]),
        lambda base: purge([base]),
        lambda base: move(base, base.with_name("new")),
        lambda base: move(base, base.with_name("new"), dry_run=True),
        lambda base: promote(base, base.with_name("new"), chained=True),
    ],
    ids=["trash", "purge", "move", "planned move", "promote"],
)
def test_what_would_lift_it_is_refused_and_changes_nothing(base, change, sealed):
    if sealed:
        seal(base, level=Protection.READONLY)
    before = {path.name for path in base.parent.iterdir()}
    with pytest.raises(Exception, match=r"immutable|sealed") as refused:
        change(base)
    assert sealed or refused.type is ProtectedByOthers
    assert "chattr -i" in str(refused.value) or sealed
    assert {path.name for path in base.parent.iterdir()} - {".cowherd-trash"} == before
    assert is_immutable(base)


@pytest.mark.parametrize("who", ["base", "other", "overlay"])
def test_a_merge_is_refused_before_anything_is_written(base, who):
    run("chattr", "-i", base)
    for name in ("overlay", "other"):
        make_overlay(base.with_name(name), base)
    write(base.with_name("overlay"), "write -P 5 0 64k")
    run("chattr", "+i", base.with_name(who))
    before = {path.name: path.read_bytes() for path in base.parent.iterdir()}
    with pytest.raises(ProtectedByOthers):
        merge(base.with_name("overlay"), strategy="preserve")
    assert {path.name: path.read_bytes() for path in base.parent.iterdir()} == before


def test_a_repair_and_another_base_s_name_are_refused(base):
    run("chattr", "-i", base)
    seal(base)
    clone(base, base.with_name("o"))
    twin = make_base(base.with_name("twin"), CONTENT)
    write(base, "write -P 5 0 64k")
    run("chattr", "+i", base)
    with pytest.raises(ProtectedByOthers):
        repair(base, donors=[twin])
    run("chattr", "-i", base)
    repair(base, donors=[twin])
    run("chattr", "+i", base.with_name("o"))
    for change in (
        lambda: move(base, base.with_name("new")),
        lambda: retarget([base.with_name("o")], twin),
        lambda: repair(base, preserve=True),
    ):
        with pytest.raises(Exception, match=r"immutable|not permitted"):
            change()
    assert content(base) == CONTENT


def test_force_deletes_it_and_it_comes_back_immutable(base):
    trash([base], force=True)
    with pytest.raises(ProtectedByOthers):
        empty_trash([base.parent])
    restore(base)
    assert is_immutable(base)
    purge([base], force=True)
    assert not base.exists()


def test_the_command_says_what_to_do(base, capsys):
    assert main(["delete", str(base)]) == 1
    assert f"chattr -i {base}" in capsys.readouterr().err
    assert main(["delete", "--force", str(base)]) == 0
    assert main(["trash", "empty", str(base.parent)]) == 1
    assert main(["trash", "empty", str(base.parent), "--force"]) == 0


def test_another_file_that_took_the_name_is_not_unprotected(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    other = make_base(tmp_path / "other", CONTENT)
    key = base.stat().st_dev, base.stat().st_ino
    base.unlink()
    base.symlink_to(other)
    other.chmod(0o400)
    with pytest.raises(Exception, match="another file has its name"):
        protection.unprotect(base, 0o777, key)
    with pytest.raises(Exception, match="another file has its name"), protection.renamed(base, key=key):
        pass
    assert other.stat().st_mode & 0o777 == 0o400
