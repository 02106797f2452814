from __future__ import annotations

import os

import pytest

from cowherd.errors import ImageInUse, NotEnoughSpace
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.faults import DonorMissing, FormatDisputed, NotSealed, RepairFailed
from cowherd.herd.repair import repair as repairing
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.image.disk import Disk
from cowherd.storage import writeback
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from cowherd.storage.protection import Protection, current, unprotect
from tests.herd.qemu_herd import BLOCK, content, killed_after, make_base, make_overlay, noise, qemu_img, write
from tests.storage.hosts import reflink_file_system, require_root

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(MIB) + bytes(MIB) + noise(MIB + 512, 1)


@pytest.fixture(params=["qcow2", "raw"])
def base(tmp_path, request):
    base = make_base(tmp_path / f"base.{request.param}", CONTENT, format=request.param)
    yield base
    if base.exists() and current(base) is Protection.IMMUTABLE:
        unprotect(base, 0o644)


@pytest.fixture
def donor(tmp_path_factory):
    """A copy of the content, where nobody looks for it by himself."""
    return make_base(tmp_path_factory.mktemp("donor") / "copy.raw", CONTENT, format="raw")


def tamper(base, *commands) -> None:
    write(base, *(commands or ("write -P 7 64k 200k", "write -P 8 1500k 4k", "write -P 9 3M 512")), format=base.suffix[1:])


def read(base) -> bytes:
    return content(base, base.suffix[1:])


def is_fine(base) -> bool:
    return all(row.status.is_fine for row in verify([base])) and all(row.status.is_fine for row in verify([base], full=True))


def test_a_base_gets_its_sealed_content_back(base, donor):
    seal(base)
    tamper(base)
    done = repair(base, donors=[donor])
    assert done.done
    assert read(base) == CONTENT
    assert is_fine(base)
    if base.suffix == ".qcow2":
        qemu_img("check", "-q", base)


def test_what_is_put_back_is_sent_to_the_disk_meanwhile(base, donor, monkeypatch):
    seal(base)
    tamper(base)
    begun = set()
    monkeypatch.setattr(writeback, "BEHIND_BYTES", 1)
    monkeypatch.setattr(HostFile, "start_writing", lambda file, offset, length: begun.add(os.path.basename(file.path)))
    repair(base, donors=[donor])
    assert begun == {base.name}


def test_blocks_of_zeros_need_no_donor(base):
    seal(base)
    tamper(base, "write -P 8 1500k 4k")
    done = repair(base)
    assert done.plan.located.zero_bytes == BLOCK
    assert read(base) == CONTENT


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(base, donor):
    seal(base)
    tamper(base)
    before = base.read_bytes(), base.stat().st_mtime_ns, base.stat().st_ctime_ns
    done = repair(base, donors=[donor], dry_run=True)
    plan = done.plan.to_json()
    assert not done.done
    assert plan["donors"] == [{"path": str(donor), "bytes": 5 * BLOCK}]
    assert plan["changed"] == [[BLOCK, 4 * BLOCK], [1500 * 1024 // BLOCK * BLOCK, BLOCK], [3 * MIB, 512]]
    assert plan["writes"][0]["bytes"] == 5 * BLOCK + 512
    assert (base.read_bytes(), base.stat().st_mtime_ns, base.stat().st_ctime_ns) == before


def test_a_twin_in_the_herd_is_found(base):
    seal(base)
    twin = make_base(base.with_name("twin.qcow2"), CONTENT, "-c")
    tamper(base)
    assert repair(base).plan.located.bytes_by_donor()[0][0] == twin
    assert read(base) == CONTENT


def test_a_raw_copy_in_the_herd_is_found(base):
    seal(base)
    copy = make_base(base.with_name("backup"), CONTENT, format="raw")
    tamper(base)
    assert repair(base).plan.located.bytes_by_donor() == [(copy, 5 * BLOCK)]
    assert read(base) == CONTENT


def test_several_donors_that_each_hold_a_part_do_it_together(base, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("parts")
    first, second = elsewhere / "first", elsewhere / "second"
    first.write_bytes(CONTENT[:MIB])
    second.write_bytes(bytes(2 * MIB) + CONTENT[2 * MIB :])
    seal(base)
    tamper(base)
    done = repair(base, donors=[first, second])
    assert done.plan.located.bytes_by_donor() == [(first, 4 * BLOCK), (second, BLOCK)]
    assert read(base) == CONTENT


def test_a_donor_that_holds_something_else_gives_nothing(base, tmp_path_factory):
    liar = tmp_path_factory.mktemp("liar") / "liar.raw"
    liar.write_bytes(noise(len(CONTENT), 5))
    seal(base)
    tamper(base)
    before = read(base)
    with pytest.raises(DonorMissing) as caught:
        repair(base, donors=[liar])
    assert (caught.value.missing_bytes, caught.value.tried, caught.value.exit_code) == (5 * BLOCK, (liar,), 4)
    assert read(base) == before


def test_a_donor_that_changes_its_mind_is_caught_before_anything_wrong_is_written(base, donor, monkeypatch):
    seal(base)
    tamper(base)
    real = repairing._execute

    def execute(*arguments):
        donor.write_bytes(noise(len(CONTENT), 5))
        real(*arguments)

    monkeypatch.setattr(repairing, "_execute", execute)
    before = read(base)
    with pytest.raises(repairing.ContentChanging):
        repair(base, donors=[donor])
    assert read(base) == before


def test_overlays_of_the_base_are_no_donors(base):
    seal(base)
    make_overlay(base.with_name("o.qcow2"), base.name, base_format=base.suffix[1:])
    tamper(base)
    with pytest.raises(DonorMissing) as caught:
        repair(base)
    assert caught.value.tried == ()


def test_a_repair_that_was_interrupted_goes_on(base, donor, monkeypatch):
    seal(base, level=Protection.READONLY)
    unprotect(base, 0o644)
    tamper(base)
    real, left = Disk.write, [2]

    def die(self, offset, data):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, offset, data)

    monkeypatch.setattr(Disk, "write", die)
    with pytest.raises(KeyboardInterrupt):
        repair(base, donors=[donor])
    assert current(base) is Protection.READONLY
    monkeypatch.setattr(Disk, "write", real)
    done = repair(base, donors=[donor])
    assert done.plan.write_bytes == 3 * BLOCK + 512
    assert read(base) == CONTENT
    assert is_fine(base)


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
def test_a_repair_that_was_killed_goes_on(base, donor, writes):
    seal(base)
    tamper(base)
    killed_after(writes, lambda: repair(base, donors=[donor]))
    repair(base, donors=[donor])
    assert read(base) == CONTENT
    assert is_fine(base)


def test_repairing_twice_does_nothing_the_second_time(base, donor):
    seal(base)
    tamper(base)
    repair(base, donors=[donor])
    assert repair(base).plan.write_bytes == 0


def test_a_base_that_was_only_touched_is_fine_after_a_repair(base):
    seal(base)
    os.utime(base)
    repair(base)
    assert is_fine(base)


def test_a_base_that_lost_its_protection_and_nothing_else_gets_it_back(base):
    seal(base, level=Protection.READONLY)
    unprotect(base, 0o644)
    os.utime(base)
    repair(base)
    assert current(base) is Protection.READONLY
    assert is_fine(base)


@pytest.mark.parametrize("size", ["1M", "4M"])
def test_a_base_that_was_resized_gets_its_size_back(base, donor, size):
    seal(base)
    qemu_img("resize", "-q", "-f", base.suffix[1:], "--shrink", base, size)
    repair(base, donors=[donor])
    assert read(base) == CONTENT
    assert is_fine(base)


def test_a_base_that_was_replaced_by_another_of_its_format_gets_its_content_back(base, donor):
    seal(base)
    make_base(base.with_name("new"), noise(2 * MIB, 9), format=base.suffix[1:]).rename(base)
    repair(base, donors=[donor])
    assert read(base) == CONTENT
    assert is_fine(base)


def test_the_protection_is_lifted_and_put_back(base, donor):
    require_root()
    seal(base, level=Protection.IMMUTABLE)
    unprotect(base, 0o644)
    tamper(base)
    repair(base, donors=[donor])
    assert read(base) == CONTENT
    assert current(base) is Protection.IMMUTABLE
    assert is_fine(base)


def test_an_immutable_base_that_is_fine_stays_so(base):
    require_root()
    seal(base, level=Protection.IMMUTABLE)
    repair(base)
    assert current(base) is Protection.IMMUTABLE
    assert is_fine(base)


def test_a_shadow_is_the_first_donor(tmp_path):
    with reflink_file_system(tmp_path) as directory:
        base = make_base(directory / "base.qcow2", CONTENT)
        seal(base, shadow=True)
        tamper(base)
        done = repair(base)
        assert done.plan.located.bytes_by_donor() == [(directory / "base.qcow2.shadow", 5 * BLOCK)]
        assert read(base) == CONTENT


def test_overlays_show_what_they_did_before_the_drift(base, donor):
    overlay = clone(base, base.with_name("o.qcow2")).overlay
    write(overlay, "write -P 1 100k 100k")
    wanted = content(overlay)
    tamper(base)
    assert content(overlay) != wanted
    repair(base, donors=[donor])
    assert content(overlay) == wanted


def test_the_drift_of_a_middle_layer_can_be_repaired_in_the_middle_layer(tmp_path, donor):
    root = make_base(tmp_path / "root.qcow2", CONTENT)
    middle = make_overlay(tmp_path / "middle.qcow2", root.name)
    seal(middle)
    tamper(root)
    repair(middle, donors=[donor])
    assert content(middle) == CONTENT
    assert is_fine(middle)


@pytest.mark.parametrize("lock", [READ, WRITE])
def test_a_base_in_use_is_not_repaired_and_its_holder_is_named(tmp_path, donor, lock):
    base = make_base(tmp_path / "base.qcow2", CONTENT)
    seal(base)
    tamper(base)
    before = read(base)
    with HostFile.open(base, writable=True, lock=lock), pytest.raises(ImageInUse) as caught:
        repair(base, donors=[donor])
    assert caught.value.holders
    assert read(base) == before


def test_a_full_disk_is_found_out_before_anything_is_written(base, donor, monkeypatch):
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 100)
    seal(base)
    qemu_img("resize", "-q", "-f", base.suffix[1:], "--shrink", base, "1M")
    before = read(base)
    with pytest.raises(NotEnoughSpace, match="nothing was changed"):
        repair(base, donors=[donor])
    assert read(base) == before


@pytest.mark.parametrize("preserve", [False, True])
def test_a_base_that_is_recorded_in_two_formats_is_left_alone(tmp_path, donor, preserve):
    base = make_base(tmp_path / "base.qcow2", CONTENT)
    seal(base)
    make_overlay(tmp_path / "one", base.name)
    make_overlay(tmp_path / "two", base.name, base_format="raw")
    tamper(base)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FormatDisputed):
        repair(base, donors=[donor], preserve=preserve)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_base_without_a_seal_is_an_error(base):
    with pytest.raises(NotSealed):
        repair(base)


def test_a_disk_that_does_not_keep_what_is_written_to_it_fails_the_repair(base, donor, monkeypatch):
    seal(base)
    tamper(base)
    monkeypatch.setattr(Disk, "write", lambda self, offset, data: None)
    with pytest.raises(RepairFailed) as failed:
        repair(base, donors=[donor])
    assert (failed.value.exit_code, failed.value.base.name) == (4, base.name)
