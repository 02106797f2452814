from __future__ import annotations

import errno
import os
import subprocess

import pytest

from cowherd.errors import BaseInUse, HostFileError, ImageFormatError, ImageInUse
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.records import sealwriting
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.faults import ContentChanging, DriftFound, FormatDisputed, NameTaken, NotSealed
from cowherd.herd.records.sealfile import read_digests, read_record
from cowherd.herd.records.sealplace import is_sealed, seal_path
from cowherd.herd.records.status import Status
from cowherd.herd.seals import seal as sealing
from cowherd.herd.seals.quick_check import condition
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.storage import atomic, copying
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from cowherd.storage.protection import Protection, current, unprotect
from tests.herd.killing import killed_before_change
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write
from tests.herd.refusing import refuse
from tests.storage.hosts import reflink_file_system, require_root

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.fixture
def base(tmp_path):
    base = make_base(tmp_path / "base.qcow2", noise(1 << 20))
    yield base
    if base.exists() and current(base) is Protection.IMMUTABLE:
        unprotect(base, 0o644)


def status(path) -> Status:
    lineage = survey_around(path)
    return condition(lineage, lineage.find(path)).status


def test_a_seal_holds_the_content_and_what_the_file_is(base):
    done = seal(base)
    record, digests = read_digests(done.seal)
    assert record == done.record
    assert (record.size, record.format, record.generation, record.level) == (1 << 20, "qcow2", 1, Protection.RECORDED)
    assert digests.runs.tolist() == [[0, 16]]
    assert done.anew
    assert status(base) is Status.OK


@pytest.mark.parametrize("level", [Protection.READONLY, Protection.IMMUTABLE])
def test_a_protected_base_is_as_sealed_and_can_be_unsealed(base, level):
    if level is Protection.IMMUTABLE:
        require_root()
    base.chmod(0o640)
    done = seal(base, level=level)
    assert done.record.level is current(base) is level
    assert status(base) is Status.OK
    unseal(base)
    assert current(base) is Protection.RECORDED
    assert base.stat().st_mode & 0o777 == 0o640
    assert not is_sealed(base)


def test_a_level_that_cannot_be_had_is_reported_as_the_one_reached(base, monkeypatch):
    monkeypatch.setattr(sealing.protection, "protect", lambda path, level: Protection.RECORDED)
    done = seal(base, level=Protection.IMMUTABLE)
    assert (done.wanted, done.record.level) == (Protection.IMMUTABLE, Protection.RECORDED)


def test_sealing_again_changes_the_level_and_nothing_else(base):
    first = seal(base, level=Protection.READONLY)
    second = seal(base, level=Protection.RECORDED)
    assert (second.anew, second.record.seal_id, second.record.generation) == (False, first.record.seal_id, 1)
    assert current(base) is Protection.RECORDED
    assert status(base) is Status.OK


def test_a_base_that_is_recorded_in_two_formats_is_not_sealed(base):
    make_overlay(base.with_name("one"), base.name)
    make_overlay(base.with_name("two"), base.name, base_format="raw")
    with pytest.raises(FormatDisputed):
        seal(base)
    assert not is_sealed(base)


def test_a_drifted_base_is_not_sealed_over(base):
    seal(base)
    write(base, "write -P 1 0 64k")
    with pytest.raises(DriftFound, match="drifted"):
        seal(base)


def test_every_write_after_sealing_shows_at_once(base):
    """Also one within the same tick of the clock by which the file system stamps times."""
    for attempt in range(5):
        seal(base)
        with base.open("r+b") as file:
            file.seek(1 << 19)
            file.write(bytes([attempt + 1]))
        assert status(base) is Status.TOUCHED
        unseal(base)


def test_an_image_open_for_writing_is_not_sealed_and_its_holder_is_named(base):
    with HostFile.open(base, writable=True, lock=WRITE), pytest.raises(ImageInUse) as caught:
        seal(base)
    assert caught.value.holders
    assert not is_sealed(base)


def test_an_image_that_is_open_for_reading_elsewhere_is_sealed(base):
    with subprocess.Popen(["qemu-io", "-r", str(base)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin
        reader.stdin.write(b"read 0 512\n")
        reader.stdin.flush()
        assert reader.stdout
        reader.stdout.readline()
        seal(base)
        reader.stdin.close()
    assert status(base) is Status.OK


def test_content_that_changes_while_it_is_read_is_not_sealed(base):
    def meddle(done, total):
        with base.open("r+b") as file:  # without QEMU's locks, as other programs write
            file.seek(1 << 19)
            file.write(b"x")

    with pytest.raises(ContentChanging):
        seal(base, progress=meddle)
    assert not is_sealed(base)


def test_a_backing_file_that_changes_while_it_is_read_is_noticed(base):
    middle = make_overlay(base.with_name("middle.qcow2"), base.name)
    with pytest.raises(ContentChanging, match="changed while it was read"):
        seal(middle, progress=lambda done, total: os.utime(base))
    assert not is_sealed(middle)


def test_a_file_written_to_between_reading_and_protecting_is_not_sealed(base, monkeypatch):
    def meddle(path, level):
        os.utime(path)
        return level

    monkeypatch.setattr(sealing.protection, "protect", meddle)
    with pytest.raises(ContentChanging):
        seal(base)
    assert not is_sealed(base)


def test_a_sealed_overlay_vouches_for_its_whole_chain(base):
    middle = make_overlay(base.with_name("middle.qcow2"), base.name)
    seal(middle)
    assert status(middle) is Status.OK
    write(base, "write -P 1 0 64k")
    assert status(middle) is Status.TOUCHED


def test_a_sealed_overlay_stays_fine_when_the_base_below_is_sealed_or_protected_anew(base):
    seal(base)
    middle = make_overlay(base.with_name("middle.qcow2"), base.name)
    seal(middle)
    seal(base, level=Protection.READONLY)
    assert status(middle) is Status.OK


def test_binding_gives_the_overlays_that_are_there_a_binding(base):
    overlay = make_overlay(base.with_name("o.qcow2"), base.name)
    busy = make_overlay(base.with_name("busy.qcow2"), base.name)
    with HostFile.open(busy, writable=True, lock=WRITE):
        done = seal(base, bind=True)
    assert done.bound == (overlay,)
    assert [path for path, _ in done.not_bound] == [busy]
    assert read_binding(overlay).content_digest == done.record.content_digest
    assert read_binding(busy) is None


def test_binding_a_sealed_overlay_keeps_its_seal_good(base):
    seal(base)
    middle = make_overlay(base.with_name("middle.qcow2"), base.name)
    seal(middle, level=Protection.READONLY)
    assert seal(base, bind=True).bound == (middle,)
    assert status(middle) is Status.OK
    assert current(middle) is Protection.READONLY


def test_sealing_without_binding_leaves_overlays_alone(base):
    overlay = make_overlay(base.with_name("o.qcow2"), base.name)
    before = overlay.read_bytes()
    assert seal(base).bound == ()
    assert overlay.read_bytes() == before


def test_a_shadow_is_kept_where_the_file_system_has_reflinks(tmp_path):
    with reflink_file_system(tmp_path) as directory:
        base = make_base(directory / "base.qcow2", noise(1 << 20))
        done = seal(base, shadow=True)
        shadow = directory / "base.qcow2.shadow"
        assert done.record.shadow == shadow.name
        assert content(shadow) == content(base)
        assert current(shadow) is Protection.READONLY
        unseal(base)
        assert not shadow.exists()


def test_a_shadow_that_was_lost_is_made_again(tmp_path):
    with reflink_file_system(tmp_path) as directory:
        base = make_base(directory / "base.qcow2", noise(1 << 20))
        seal(base, shadow=True)
        shadow = directory / "base.qcow2.shadow"
        shadow.unlink()
        assert seal(base).record.shadow is None
        assert seal(base, shadow=True).record.shadow == shadow.name
        assert content(shadow) == content(base)


def test_a_shadow_that_cannot_be_had_is_reported(base, monkeypatch):
    monkeypatch.setattr(copying, "clone_file", lambda source, target: False)
    done = seal(base, shadow=True)
    assert (done.record.shadow, done.shadow_problem) == (None, "the file system has no reflinks")


def test_unsealing_is_refused_while_overlays_depend_on_it(base):
    seal(base)
    overlay = make_overlay(base.with_name("o.qcow2"), base.name)
    with pytest.raises(BaseInUse) as caught:
        unseal(base)
    assert (caught.value.exit_code, caught.value.dependents) == (3, (overlay,))
    assert is_sealed(base)
    unseal(base, force=True)
    assert not is_sealed(base)


def test_unsealing_counts_overlays_in_directories_that_are_named(base, tmp_path_factory):
    seal(base)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_overlay(elsewhere / "o.qcow2", base)
    with pytest.raises(BaseInUse):
        unseal(base, herd=[elsewhere])


def test_unsealing_what_is_not_sealed_is_an_error_that_says_so_whatever_stands_on_it(base):
    make_overlay(base.with_name("o.qcow2"), base.name)
    for force in (False, True):
        with pytest.raises(NotSealed, match=r"is not sealed: there is no seal to give up$"):
            unseal(base, force=force)


def test_a_damaged_seal_is_given_up_only_by_force(base):
    path = seal(base).seal
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ImageFormatError):
        unseal(base)
    unseal(base, force=True)
    assert not is_sealed(base)


def test_the_seal_of_an_image_that_is_gone_can_be_given_up(base):
    seal(base)
    base.unlink()
    unseal(base)
    assert not seal_path(base).exists()
    with pytest.raises(HostFileError, match="No such file"):
        unseal(base)


def test_a_raw_base_is_sealed_as_its_overlay_records_it(tmp_path):
    base = make_base(tmp_path / "base.raw", noise(1 << 16), format="raw")
    make_overlay(tmp_path / "o.qcow2", base.name, base_format="raw")
    assert read_record(seal(base).seal).format == "raw"


def test_an_overlay_whose_base_could_not_be_looked_at_is_not_sealed_as_if_it_had_none(tmp_path, monkeypatch):
    make_base(tmp_path / "base", noise(65536))
    make_overlay(tmp_path / "overlay", "base")

    def half_blind(*arguments, real=survey_around, **options):
        with monkeypatch.context() as patched:
            refuse(patched, tmp_path / "base")
            return real(*arguments, **options)

    monkeypatch.setattr("cowherd.herd.seals.seal.survey_around", half_blind)
    with pytest.raises(ContentChanging):
        seal(tmp_path / "overlay")
    assert not seal_path(tmp_path / "overlay").exists()


def no_locks_here(*_: object) -> None:
    """As on NFS, where directories can't be locked."""
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_who_seals_the_same_image_at_the_same_moment_does_not_fail(base, monkeypatch):
    monkeypatch.setattr(sealwriting.fcntl, "flock", no_locks_here)

    def faster(path, *arguments, real=atomic.replacement, **options):
        monkeypatch.setattr(atomic, "replacement", real)
        seal(base)
        return real(path, *arguments, **options)

    monkeypatch.setattr(atomic, "replacement", faster)
    assert read_record(seal(base).seal).content_digest
    assert status(base) is Status.OK


def test_a_file_that_takes_the_seal_s_name_meanwhile_is_left_alone(base, monkeypatch):
    def faster(path, *arguments, real=atomic.replacement, **options):
        seal_path(base).write_text("a letter")
        return real(path, *arguments, **options)

    monkeypatch.setattr(atomic, "replacement", faster)
    with pytest.raises(NameTaken):
        seal(base)
    assert seal_path(base).read_text() == "a letter"


@pytest.mark.parametrize("level", [Protection.RECORDED, Protection.READONLY])
def test_killed_before_any_change_it_can_be_given_again_and_the_mode_from_before_is_known(tmp_path, level):
    base, number = make_base(tmp_path / "base", noise(65536)), 0
    base.chmod(0o640)
    while killed_before_change(number, lambda: seal(base, level=level)):
        assert seal(base, level=level).record.level >= level
        assert {row.status.value for row in verify([base])} == {"ok"}
        unseal(base)
        assert base.stat().st_mode & 0o777 == 0o640, f"killed before change {number}"
        number += 1
    assert number > 1


@pytest.mark.parametrize(("mode", "of_seal"), [(0o600, 0o400), (0o640, 0o440), (0o644, 0o444)])
def test_who_may_not_read_an_image_may_not_read_its_seal(tmp_path, mode, of_seal):
    base = make_base(tmp_path / "base", noise(65536))
    base.chmod(mode)
    assert seal(base).seal.stat().st_mode & 0o777 == of_seal
