"""Every finding: it is found, and after its remedy, pasted into a shell, it is not found any more."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from cowherd.formats.reference import BackingReference
from cowherd.herd.doctor.doctor import CHECKS, doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.herd.overlays.clone import clone
from cowherd.herd.seals.adopt import adopt
from cowherd.herd.seals.seal import seal
from cowherd.herd.trash.trash import trash
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from cowherd.storage.protection import Protection
from tests.herd.doctor.remedies import cure, kinds, printed_remedies
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(2 * MIB)


@pytest.fixture
def sealed(tmp_path):
    """A sealed, readonly base with a bound overlay: nothing to find. Its directory has a name that no shell takes as it is."""
    herd = tmp_path / "vm's $(disks) & 母盘\n\\"
    herd.mkdir()
    make_base(herd / "base.qcow2", CONTENT)
    clone(herd / "base.qcow2", herd / "o.qcow2")
    seal(herd / "base.qcow2", level=Protection.READONLY)
    return herd


def patch(path, offset: int, data: bytes) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
    path.chmod(mode)


def test_a_herd_in_order_has_no_findings(sealed):
    found = doctor([sealed], full=True)
    assert (found.findings, found.healthy, found.images) == ((), True, 2)


def test_findings_come_worst_first_and_notes_last(sealed):
    make_base(sealed / "other.qcow2", CONTENT)
    make_overlay(sealed / "p.qcow2", "other.qcow2")
    make_overlay(sealed / "q.qcow2", "p.qcow2")
    (sealed / "other.qcow2").unlink()
    found = doctor([sealed])
    assert [finding.kind for finding in found.findings] == [Kind.MISSING_BASE]
    assert found.findings[0].path == sealed / "p.qcow2"
    assert not found.healthy


def test_an_unsealed_base_is_a_note_and_sealing_it_cures_that_and_more(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT)
    make_overlay(tmp_path / "o.qcow2", "base.qcow2", size=4 * MIB)
    found = doctor([tmp_path])
    assert [finding.kind for finding in found.findings] == [Kind.UNSEALED_BASE, Kind.SMALLER_BASE]
    assert found.healthy
    cure(tmp_path, Kind.UNSEALED_BASE)
    assert kinds(tmp_path) == []


def test_a_smaller_base_counts_as_meant_once_it_is_sealed(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT)
    make_overlay(tmp_path / "o.qcow2", "base.qcow2", size=4 * MIB)
    cure(tmp_path, Kind.SMALLER_BASE)


def test_a_writable_sealed_base_is_cured(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT)
    clone(tmp_path / "base.qcow2", tmp_path / "o.qcow2")
    assert kinds(tmp_path) == [Kind.WRITABLE_BASE]
    cure(tmp_path, Kind.WRITABLE_BASE)


def test_an_unbound_overlay_is_cured(sealed):
    make_overlay(sealed / "p.qcow2", "base.qcow2")
    cure(sealed, Kind.UNBOUND)
    assert kinds(sealed) == []


def test_equal_findings_are_said_once_and_one_pasted_line_ends_them_all(sealed):
    names = [f"vm{number:02}.qcow2" for number in range(8, 12)]
    for name in (*names, "mail.qcow2"):
        make_overlay(sealed / name, "base.qcow2")
    assert len(printed_remedies(sealed, Kind.UNBOUND)) == 1
    assert len(printed_remedies(sealed, Kind.UNBOUND, options=["--all"])) == 5
    cure(sealed, Kind.UNBOUND)
    assert kinds(sealed) == []
    for name in names:
        patch(sealed / name, 72, (1).to_bytes(8, "big"))
    (line,) = printed_remedies(sealed, Kind.DIRTY)
    assert line.startswith("for image in ")
    cure(sealed, Kind.DIRTY)
    assert kinds(sealed) == []


def test_a_base_moved_by_hand_is_found_again(sealed):
    (sealed / "elsewhere").mkdir()
    before = content(sealed / "o.qcow2")
    for name in ("base.qcow2", "base.qcow2.seal"):
        os.rename(sealed / name, sealed / "elsewhere" / name)
    cure(sealed, Kind.MISSING_BASE)
    assert kinds(sealed) == []
    assert content(sealed / "o.qcow2") == before


def test_a_base_that_was_deleted_comes_back_from_the_trash(sealed):
    trash([sealed / "base.qcow2"], force=True)
    cure(sealed, Kind.MISSING_BASE)
    assert kinds(sealed) == []


def test_a_base_that_is_gone_for_good_has_no_remedy(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT)
    make_overlay(tmp_path / "o.qcow2", "base.qcow2")
    (tmp_path / "base.qcow2").unlink()
    (finding,) = doctor([tmp_path]).findings
    assert (finding.kind, finding.remedy) == (Kind.MISSING_BASE, ())


def test_a_loop_is_found(tmp_path):
    make_base(tmp_path / "a.qcow2", CONTENT)
    make_overlay(tmp_path / "b.qcow2", "a.qcow2")
    qemu_img("rebase", "-u", "-b", "b.qcow2", "-F", "qcow2", tmp_path / "a.qcow2")
    assert Kind.LOOP in kinds(tmp_path)


def test_a_lost_image_is_cured(sealed):
    (sealed / "o.qcow2").unlink()
    (sealed / "base.qcow2").unlink()
    cure(sealed, Kind.LOST_IMAGE)


def test_a_damaged_header_is_found(sealed):
    patch(sealed / "o.qcow2", 4, b"\0\0\0\x09")
    assert Kind.UNREADABLE in kinds(sealed)


def test_a_touched_base_is_cured_by_reading_it(sealed):
    os.utime(sealed / "base.qcow2")
    assert kinds(sealed) == [Kind.TOUCHED]
    cure(sealed, Kind.TOUCHED)
    assert kinds(sealed) == []


def test_drift_is_cured_by_repair(sealed):
    make_base(sealed / "twin.raw", CONTENT, format="raw")
    (sealed / "base.qcow2").chmod(0o644)
    write(sealed / "base.qcow2", "write -P 7 0 64k")
    assert kinds(sealed)[0] is Kind.TOUCHED
    cure(sealed, Kind.DRIFTED, full=True)
    assert content(sealed / "o.qcow2") == CONTENT


def test_a_replaced_base_is_cured_by_reading_it(sealed):
    copy = sealed / "copy"
    copy.write_bytes((sealed / "base.qcow2").read_bytes())
    copy.chmod(0o444)
    os.replace(copy, sealed / "base.qcow2")
    cure(sealed, Kind.REPLACED)
    assert kinds(sealed) == []


def test_an_overlay_on_other_content_is_put_back_on_the_base_it_was_made_on(sealed):
    make_base(sealed / "other.qcow2", noise(2 * MIB, 1))
    seal(sealed / "other.qcow2", level=Protection.READONLY)
    qemu_img("rebase", "-u", "-b", "other.qcow2", "-F", "qcow2", sealed / "o.qcow2")
    cure(sealed, Kind.BINDING_MISMATCH)
    assert content(sealed / "o.qcow2") == CONTENT


def test_an_overlay_whose_base_has_lost_its_seal_is_cured_by_sealing_it(sealed):
    (sealed / "base.qcow2").chmod(0o644)
    (sealed / "base.qcow2.seal").unlink()
    cure(sealed, Kind.UNVOUCHED)
    assert content(sealed / "o.qcow2") == CONTENT


def test_a_replaced_base_with_other_content_is_cured_by_repair(sealed):
    make_base(sealed / "twin.raw", CONTENT, format="raw")
    (sealed / "new").write_bytes((sealed / "base.qcow2").read_bytes())
    write(sealed / "new", "write -P 7 0 64k")
    os.replace(sealed / "new", sealed / "base.qcow2")
    cure(sealed, Kind.REPLACED, full=True)
    assert content(sealed / "o.qcow2") == CONTENT


def test_a_damaged_seal_is_cured(sealed):
    patch(sealed / "base.qcow2.seal", 50, b"nonsense")
    cure(sealed, Kind.TOUCHED)


def test_an_unrecorded_format_is_cured(sealed):
    with open_disk(sealed / "o.qcow2", writable=True, backing=False) as disk:
        disk.set_backing(BackingReference("base.qcow2", None))
    assert "backing-filename-format" not in qemu_img("info", "--output=json", sealed / "o.qcow2")
    cure(sealed, Kind.NO_FORMAT)
    assert '"backing-filename-format": "qcow2"' in qemu_img("info", "--output=json", sealed / "o.qcow2")


def test_a_base_that_is_written_to_right_now_is_found_with_the_process(sealed):
    (sealed / "base.qcow2").chmod(0o644)
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys,time; f = open(sys.argv[1], 'r+b'); print(1, flush=True); time.sleep(60)",
            sealed / "base.qcow2",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        writer.stdout.readline()
        found = [finding for finding in doctor([sealed]).findings if finding.kind is Kind.WRITTEN_NOW]
        assert [finding.path for finding in found] == [sealed / "base.qcow2"]
        assert f"pid {writer.pid}" in found[0].detail
    finally:
        writer.kill()
        writer.communicate()
    assert Kind.WRITTEN_NOW not in kinds(sealed)


def test_the_dirty_and_the_corrupt_bit_are_cured(sealed):
    for bit, kind in ((1, Kind.DIRTY), (2, Kind.CORRUPT)):
        patch(sealed / "o.qcow2", 72, bit.to_bytes(8, "big"))
        cure(sealed, kind)
    assert kinds(sealed, full=True) == []


def test_leaked_clusters_are_found_in_full_and_cured(sealed):
    write(sealed / "o.qcow2", "write -P 1 0 128k")
    qemu_img("snapshot", "-c", "s", sealed / "o.qcow2")
    assert (sealed / "o.qcow2").read_bytes()[60:64] == b"\0\0\0\1"
    patch(sealed / "o.qcow2", 60, b"\0\0\0\0")  # the snapshot is forgotten, its clusters are not
    assert kinds(sealed) == []
    assert kinds(sealed, full=True) == [Kind.LEAKED]
    cure(sealed, Kind.LEAKED, full=True)


def test_contradicting_tables_are_found_in_full_and_cured(sealed):
    write(sealed / "o.qcow2", "write -P 1 0 128k")
    with open_disk(sealed / "o.qcow2", backing=False) as disk:
        table = disk.layers[0].header.refcount_table_offset
    patch(sealed / "o.qcow2", table, bytes(8))
    cure(sealed, Kind.DAMAGED_TABLES, full=True)


def test_an_overlay_that_copied_its_base_is_cured_by_flattening(sealed):
    write(sealed / "o.qcow2", "write -P 1 0 2M")
    assert kinds(sealed) == [Kind.COPIED_BASE]
    before = content(sealed / "o.qcow2")
    cure(sealed, Kind.COPIED_BASE)
    assert content(sealed / "o.qcow2") == before


def test_an_overlay_that_wrote_as_much_elsewhere_has_not_copied_its_base(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT + bytes(2 * MIB))
    clone(tmp_path / "base.qcow2", tmp_path / "o.qcow2")
    write(tmp_path / "o.qcow2", "write -P 1 2M 2M")
    assert kinds(tmp_path) == [Kind.WRITABLE_BASE]


def test_a_chain_that_is_too_deep_is_cured_at_its_end(tmp_path):
    make_base(tmp_path / "0", CONTENT)
    for number in range(1, 5):
        make_overlay(tmp_path / f"{number}", f"{number - 1}")
    found = [finding.path for finding in doctor([tmp_path], longest_chain=4).findings if finding.kind is Kind.DEEP_CHAIN]
    assert found == [tmp_path / "4"]
    cure(tmp_path, Kind.DEEP_CHAIN, longest_chain=4)
    assert content(tmp_path / "4") == CONTENT


def test_a_name_that_climbs_far_is_fragile_and_cured(tmp_path):
    (tmp_path / "bases" / "old").mkdir(parents=True)
    (tmp_path / "vms" / "web").mkdir(parents=True)
    make_base(tmp_path / "bases" / "old" / "base", CONTENT)
    make_overlay(tmp_path / "vms" / "web" / "o", "../../bases/old/base")
    assert Kind.FRAGILE_NAME in kinds(tmp_path)
    cure(tmp_path, Kind.FRAGILE_NAME)
    assert content(tmp_path / "vms" / "web" / "o") == CONTENT


def test_a_name_that_leads_nowhere_from_a_link_elsewhere_is_cured(sealed):
    (sealed / "links").mkdir()
    (sealed / "links" / "o.qcow2").symlink_to(sealed / "o.qcow2")
    cure(sealed, Kind.BROKEN_NAME)
    assert content(sealed / "links" / "o.qcow2") == CONTENT


def test_a_base_that_is_in_use_is_a_note_in_a_full_examination(sealed):
    from cowherd.storage.locks import WRITE

    with HostFile.open(sealed / "base.qcow2", lock=WRITE):
        assert Kind.NOT_READ in kinds(sealed, full=True)


def test_an_examination_changes_nothing(sealed):
    write(sealed / "o.qcow2", "write -P 1 0 2M")
    os.utime(sealed / "base.qcow2")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sealed.iterdir()}
    doctor([sealed], full=True)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sealed.iterdir()} == before


def test_an_adopted_herd_is_in_order(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT)
    for name in ("a", "b"):
        make_overlay(tmp_path / name, "base.qcow2")
    assert [one.problem for one in adopt([tmp_path])] == [None, None]
    assert kinds(tmp_path) == [Kind.WRITABLE_BASE]


def test_a_thousand_overlays_take_little_time(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT)
    make_overlay(tmp_path / "o", "base.qcow2")
    data = (tmp_path / "o").read_bytes()
    for number in range(1000):
        (tmp_path / f"o{number}").write_bytes(data)
    began = time.monotonic()
    assert doctor([tmp_path]).images == 1002
    assert time.monotonic() - began < 10


def test_every_check_is_documented_by_its_docstring():
    assert all(check.__doc__ for check in CHECKS)
