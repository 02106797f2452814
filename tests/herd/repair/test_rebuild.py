from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from cowherd.cli.guard.main import main
from cowherd.errors import HostFileError, NotEnoughSpace
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.faults import DonorMissing, RepairFailed
from cowherd.herd.repair import rebuild as rebuilding
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.storage.protection import Protection, current
from tests.herd.qemu_herd import BLOCK, content, make_base, noise, write
from tests.storage.hosts import reflink_file_system, require_root

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(MIB) + bytes(MIB) + noise(MIB + 512, 1)


@pytest.fixture(params=["qcow2", "raw"])
def base(tmp_path, request):
    """A sealed base whose overlay has data of its own."""
    base = make_base(tmp_path / f"base.{request.param}", CONTENT, format=request.param)
    clone(base, tmp_path / "overlay.qcow2")
    write(tmp_path / "overlay.qcow2", "write -P 7 64k 64k")
    return base


@pytest.fixture
def donor(tmp_path_factory):
    """A copy of the content, where nobody looks for it by himself."""
    return make_base(tmp_path_factory.mktemp("donor") / "copy.raw", CONTENT, format="raw")


def read(base) -> bytes:
    return content(base, base.suffix[1:])


def files(folder) -> dict[str, tuple[int, int]]:
    return {entry.name: (entry.stat().st_ino, entry.stat().st_mtime_ns) for entry in os.scandir(folder)}


def test_a_base_that_is_gone_comes_back_with_its_overlays_as_they_were(base, donor):
    overlay = base.with_name("overlay.qcow2")
    before = content(overlay)
    base.unlink()
    done = repair(base, donors=[donor])
    assert (done.done, done.plan.gone) == (True, True)
    assert read(base) == CONTENT
    assert content(overlay) == before
    assert all(row.status.is_fine for row in verify([base, overlay], full=True))


def test_it_gets_its_protection_and_its_mode_back(base, donor):
    base.chmod(0o640)
    seal(base, level=Protection.READONLY)
    base.unlink()
    repair(base, donors=[donor])
    assert current(base) is Protection.READONLY


def test_a_dry_run_changes_nothing(base, donor):
    base.unlink()
    before = files(base.parent)
    done = repair(base, donors=[donor], dry_run=True)
    assert not done.done
    assert done.plan.to_json()["donors"] == [{"path": str(donor), "bytes": 33 * BLOCK}]
    assert files(base.parent) == before


def test_a_donor_is_found_in_the_herd(base):
    shutil.copyfile(base, base.with_name(f"twin.{base.suffix[1:]}"))
    base.unlink()
    repair(base)
    assert read(base) == CONTENT


def test_a_deleted_file_that_a_process_still_has_open_is_a_donor(base):
    with open(base, "rb") as kept, subprocess.Popen(["sleep", "60"], stdin=kept) as process:
        try:
            base.unlink()
            done = repair(base)
        finally:
            process.kill()
    assert str(done.plan.located.bytes_by_donor()[0][0]).startswith("/proc/")
    assert read(base) == CONTENT


def test_without_a_donor_nothing_is_made(base):
    base.unlink()
    before = files(base.parent)
    with pytest.raises(DonorMissing) as missing:
        repair(base)
    assert missing.value.missing_bytes == 33 * BLOCK
    assert files(base.parent) == before


def test_a_donor_with_other_content_gives_only_what_is_right(base, donor):
    write(donor, "write -P 9 0 64k", format="raw")
    base.unlink()
    with pytest.raises(DonorMissing) as missing:
        repair(base, donors=[donor])
    assert missing.value.missing_bytes == BLOCK


def test_on_a_full_disk_nothing_is_made(base, donor, monkeypatch):
    base.unlink()
    before = files(base.parent)
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 4096)
    with pytest.raises(NotEnoughSpace):
        repair(base, donors=[donor])
    assert files(base.parent) == before


def test_what_does_not_read_back_as_sealed_never_takes_the_name(base, donor, monkeypatch):
    base.unlink()
    before = files(base.parent)
    monkeypatch.setattr(rebuilding, "write_blocks", lambda disk, *rest: disk.write(0, b"x" * 512))
    with pytest.raises(RepairFailed):
        repair(base, donors=[donor])
    assert files(base.parent) == before


def test_a_file_that_appeared_meanwhile_is_not_replaced(base, donor, monkeypatch):
    base.unlink()

    def appear(disk, *rest):
        base.write_bytes(b"somebody's")
        return written(disk, *rest)

    written = rebuilding.write_blocks
    monkeypatch.setattr(rebuilding, "write_blocks", appear)
    with pytest.raises(HostFileError, match="File exists"):
        repair(base, donors=[donor])
    assert base.read_bytes() == b"somebody's"


def test_doctor_names_the_command_where_overlays_stand_on_what_is_gone(base):
    base.unlink()
    (finding,) = [finding for finding in doctor([base.parent]).findings if finding.kind.value == "lost-image"]
    assert finding.remedy[:3] == ("cowherd", "repair", str(base))


def test_the_command_says_what_it_does(base, donor, capsys):
    base.unlink()
    assert main(["repair", str(base), "--from", str(donor)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(": it is gone; its seal tells what it held: 3 MiB")
    assert said[-1].endswith(": there again, as sealed")


def test_the_shadow_brings_it_back_without_costing_space(tmp_path):
    require_root()
    with reflink_file_system(tmp_path) as folder:
        base = make_base(folder / "base.raw", CONTENT, format="raw")
        clone(base, folder / "overlay.qcow2")
        seal(base, shadow=True)
        base.unlink()
        before = os.statvfs(folder).f_bfree
        repair(base)
        os.sync()
        assert before - os.statvfs(folder).f_bfree < 100
        assert read(base) == CONTENT
        assert all(row.status.is_fine for row in verify([base], full=True))
