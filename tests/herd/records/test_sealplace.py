"""The seal of a base beside which none can lie: where it is kept, who finds it, and what is believed."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.cli.guard.main import main
from cowherd.errors import BaseSealed, HostFileError
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.gate.gate import guard_write
from cowherd.herd.lineage.book.query import places_under
from cowherd.herd.lineage.scan import scan
from cowherd.herd.lineage.survey import survey
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.move import move
from cowherd.herd.records import sealplace
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import SealHasNoPlace, find_seal, is_kept, is_sealed, lasting_name, seal_path
from cowherd.herd.records.sealrecord import KeptFor
from cowherd.herd.records.status import Status
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.herd.trash.trash import purge
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import make_overlay, qemu_img, write
from tests.storage.hosts import as_nobody, loop_device, mounted, require_root, run

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the state of these tests is."""
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path / "state"))
    sealplace.forget_listing()
    yield tmp_path / "state" / "seals"
    sealplace.forget_listing()


@pytest.fixture
def place(tmp_path: Path, state: Path) -> Iterator[Path]:
    """A file system with a base and an overlay of it, which is mounted read-only."""
    image = tmp_path / "fs"
    image.touch()
    os.truncate(image, 32 * MIB)
    run("mkfs.ext4", "-q", "-F", image)
    with mounted(image, tmp_path / "ro") as directory:
        qemu_img("create", "-q", "-f", "qcow2", directory / "base.qcow2", MIB)
        write(directory / "base.qcow2", "write -P 1 0 64k")
        make_overlay(directory / "inner.qcow2", directory / "base.qcow2")
        run("mount", "-o", "remount,ro", directory)
        yield directory


def kept(state: Path) -> list[Path]:
    """The seals that are kept."""
    return sorted(state.iterdir()) if state.exists() else []


def test_a_clone_of_a_base_on_a_read_only_file_system_is_bound_to_a_seal_that_is_kept(place: Path, state: Path, tmp_path: Path):
    done = clone(place / "base.qcow2", tmp_path / "vm.qcow2")
    assert done.binding is not None
    assert kept(state) == [Path(find_seal(place / "base.qcow2") or "")]
    record = read_record(kept(state)[0])
    assert record.kept_for is not None
    assert record.kept_for.path == str(place / "base.qcow2")
    assert [row.status for row in verify([tmp_path / "vm.qcow2"], full=True)] == [Status.OK, Status.OK]


def test_every_look_at_a_herd_finds_it(place: Path, tmp_path: Path):
    seal(place / "base.qcow2")
    lineage = survey([place])
    image = lineage.find(place / "base.qcow2")
    assert lineage.seal(image) == image.seal == str(seal_path(place / "base.qcow2"))
    assert lineage.record_of(image) is not None
    clone(place / "base.qcow2", tmp_path / "vm.qcow2")
    outside = survey([], [tmp_path])
    assert outside.seal(outside.find(place / "base.qcow2")) == image.seal
    with pytest.raises(BaseSealed):
        guard_write(place / "base.qcow2")


def test_sealing_again_keeps_it_where_it_is(place: Path, state: Path):
    first = seal(place / "base.qcow2")
    again = seal(place / "base.qcow2", level=Protection.READONLY, shadow=True)
    assert (again.anew, again.seal, again.record.kept_for) == (False, first.seal, first.record.kept_for)
    assert again.shadow_problem == "nothing can be put beside the image"
    assert len(kept(state)) == 1
    assert is_sealed(place / "base.qcow2")


def test_unsealing_removes_it(place: Path, state: Path):
    seal(place / "base.qcow2")
    unseal(place / "base.qcow2", force=True)
    assert kept(state) == []
    assert not is_sealed(place / "base.qcow2")


def test_doctor_advises_nothing_that_can_not_be_done_there(place: Path):
    for _ in range(2):
        assert all(not finding.remedy for finding in doctor([place]).findings)
        seal(place / "base.qcow2")


def test_a_seal_that_is_kept_is_another_images_no_more_than_its_path(place: Path, state: Path, tmp_path: Path):
    seal(place / "base.qcow2")
    run("umount", place)
    other = tmp_path / "other"
    other.touch()
    os.truncate(other, 32 * MIB)
    run("mkfs.ext4", "-q", "-F", other)
    try:
        run("mount", "-o", "loop", other, place)
        qemu_img("create", "-q", "-f", "qcow2", place / "base.qcow2", MIB)
        known = read_record(kept(state)[0]).kept_for
        assert known is not None
        if known.uuid is None:
            pytest.skip("nothing here tells the file systems' UUIDs")
        assert not is_sealed(place / "base.qcow2")
    finally:
        subprocess.run(["umount", str(place)], check=True)
        run("mount", "-o", "loop,ro", tmp_path / "fs", place)


def test_the_file_systems_uuid_tells_one_from_another(monkeypatch: pytest.MonkeyPatch, place: Path):
    monkeypatch.setattr(sealplace, "_file_system", lambda device: "one")
    seal(place / "base.qcow2")
    assert is_sealed(place / "base.qcow2")
    monkeypatch.setattr(sealplace, "_file_system", lambda device: "another")
    assert not is_sealed(place / "base.qcow2")
    monkeypatch.setattr(sealplace, "_file_system", lambda device: None)  # udev is not there to ask
    assert is_sealed(place / "base.qcow2")


def test_a_base_that_is_not_there_now_is_no_lost_image(place: Path, state: Path, tmp_path: Path):
    seal(place / "base.qcow2")
    run("umount", place)
    try:
        assert survey([tmp_path]).orphans == ()
        assert len(kept(state)) == 1
    finally:
        run("mount", "-o", "loop,ro", tmp_path / "fs", place)


def test_a_file_system_that_can_be_written_again_goes_on_with_the_seal(place: Path, tmp_path: Path):
    seal(place / "base.qcow2")
    run("mount", "-o", "remount,rw", place)
    assert is_sealed(place / "base.qcow2")
    move(place / "base.qcow2", place / "renamed.qcow2")
    assert find_seal(place / "renamed.qcow2") == str(place / "renamed.qcow2.seal")
    assert read_record(place / "renamed.qcow2.seal").kept_for is None
    assert all(row.status is Status.OK for row in verify([place / "inner.qcow2"]))
    assert not is_sealed(place / "base.qcow2")


def test_a_purged_image_leaves_no_seal(place: Path, state: Path):
    seal(place / "base.qcow2")
    run("mount", "-o", "remount,rw", place)
    purge([place / "base.qcow2"], force=True)
    assert kept(state) == []


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_directory_into_which_others_may_write_is_not_believed(place: Path, state: Path, mode: int):
    seal(place / "base.qcow2")
    state.chmod(mode)
    sealplace.forget_listing()
    assert not is_sealed(place / "base.qcow2")
    with pytest.raises(SealHasNoPlace, match="others may write"):
        seal(place / "base.qcow2")


def test_a_directory_of_somebody_elses_is_not_believed(place: Path, state: Path):
    seal(place / "base.qcow2")
    os.chown(state, 1234, 1234)
    sealplace.forget_listing()
    assert not is_sealed(place / "base.qcow2")


def test_where_no_place_is_left_the_ways_out_are_named(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    monkeypatch.setenv("COWHERD_STATE", "off")
    assert main(["clone", str(place / "base.qcow2"), str(tmp_path / "vm.qcow2")]) == 1
    printed = capsys.readouterr().err
    assert all(word in printed for word in ("Read-only file system", "COWHERD_STATE", "--no-seal"))
    assert not (tmp_path / "vm.qcow2").exists()
    assert main(["clone", "--no-seal", str(place / "base.qcow2"), str(tmp_path / "vm.qcow2")]) == 0


def test_a_full_disk_is_no_reason_to_look_elsewhere(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", MIB)

    def full(path, record, digests):
        raise HostFileError(path, "write", OSError(28, "No space left on device"))

    monkeypatch.setattr("cowherd.herd.seals.seal.write_seal", full)
    with pytest.raises(HostFileError, match="No space left"):
        seal(tmp_path / "base.qcow2")
    assert kept(state) == []


def test_a_user_seals_roots_base_in_a_place_of_their_own(state: Path, monkeypatch: pytest.MonkeyPatch):
    require_root()
    directory = Path(f"/dev/shm/cowherd-place-{os.getpid()}")
    (directory / "root").mkdir(parents=True)
    try:
        base = directory / "root" / "base.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", base, MIB)
        clone(base, directory / "warm.qcow2")  # all modules are loaded while they may be read
        unseal(base, force=True)
        monkeypatch.setenv("COWHERD_STATE", str(directory / "state"))
        with as_nobody(directory):
            done = clone(base, directory / "vm.qcow2")
            assert done.binding is not None
            found = find_seal(base)
        assert found is not None
        assert is_kept(found)
        assert stat.S_IMODE(os.stat(directory / "state" / "seals").st_mode) == 0o700
        sealplace.forget_listing()
        assert not is_sealed(base)  # root does not believe what a user keeps
    finally:
        subprocess.run(["rm", "-rf", str(directory)], check=True)


def test_a_users_own_directory_comes_before_roots(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COWHERD_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/alice/state")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert sealplace._directories() == ["/home/alice/state/cowherd/seals", "/var/lib/cowherd/seals"]
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/alice")
    assert sealplace._directories()[0] == "/home/alice/.local/state/cowherd/seals"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert sealplace._directories() == ["/var/lib/cowherd/seals"]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device with an image on it, by a node of the test's own."""
    backing = tmp_path / "backing"
    backing.touch()
    os.truncate(backing, 8 * MIB)
    with loop_device(backing) as found:
        qemu_img("create", "-q", "-f", "qcow2", found, MIB)
        write(found, "write -P 1 0 64k")
        yield found


def test_a_device_is_known_by_what_it_is_called_as_long_as_it_lives(device: Path, state: Path, tmp_path: Path):
    done = clone(device, tmp_path / "vm.qcow2")
    assert done.binding is not None
    assert [one.parent for one in kept(state)] == [state]
    assert not os.path.lexists(f"{device}.seal")
    number = os.stat(device).st_rdev
    os.mknod(tmp_path / "node", stat.S_IFBLK | 0o600, number)
    (tmp_path / "volume").symlink_to(tmp_path / "node")
    assert lasting_name(os.fspath(device)) == lasting_name(os.fspath(tmp_path / "node"))
    assert find_seal(tmp_path / "volume") == find_seal(device) == str(kept(state)[0])
    assert str(tmp_path / "backing") in lasting_name(os.fspath(device))


def test_the_overlay_of_a_sealed_device_is_guarded(device: Path, state: Path, tmp_path: Path):
    clone(device, tmp_path / "vm.qcow2")
    assert [row.status for row in verify([tmp_path / "vm.qcow2"])] == [Status.OK, Status.OK]
    with pytest.raises(BaseSealed):
        guard_write(device, herd=[tmp_path])
    write(device, "write -P 9 0 64k")
    assert Status.DRIFTED in [row.status for row in verify([tmp_path / "vm.qcow2"], full=True)]


def test_another_device_of_the_same_number_is_not_taken_for_it(device: Path, state: Path, tmp_path: Path):
    seal(device)
    run("losetup", "-d", device)
    other = tmp_path / "other"
    other.touch()
    os.truncate(other, 8 * MIB)
    run("losetup", device, other)
    assert not is_sealed(device)


def test_a_new_node_after_a_boot_is_no_replacement(device: Path, state: Path, tmp_path: Path):
    os.mknod(tmp_path / "node", stat.S_IFBLK | 0o600, os.stat(device).st_rdev)
    seal(tmp_path / "node")
    (tmp_path / "node").unlink()
    os.mknod(tmp_path / "another", stat.S_IFBLK | 0o600, os.stat(device).st_rdev)
    (row,) = verify([tmp_path / "another"])
    assert row.status is Status.TOUCHED
    (row,) = verify([tmp_path / "another"], full=True)
    assert row.status is Status.OK


def test_what_has_no_kept_seals_costs_nothing(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(50):
        (tmp_path / f"{number}.qcow2").touch()
    asked: list[object] = []

    def noted(real):
        def ask(path, *rest, **how):
            asked.append(path)
            return real(path, *rest, **how)

        return ask

    for name in ("stat", "lstat", "listdir"):
        monkeypatch.setattr(sealplace.os, name, noted(getattr(os, name)))
    scan(places_under([tmp_path]))
    assert [path for path in asked if str(path).startswith(str(state))] == [str(state)]


@pytest.mark.parametrize(
    "facts", [{}, {"path": 7}, {"path": None}, {"path": "/x", "uuid": 7}, {"path": "/x", "device": []}, {"path": "x" * 5000}]
)
def test_a_place_that_makes_no_sense_is_refused(facts: dict[str, object]):
    with pytest.raises(ValueError, match="the place of the seal"):
        KeptFor.from_dict(facts)
