from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import cowherd
from cowherd.errors import BaseInUse, BaseSealed
from cowherd.herd.gate.gate import dependents_of
from cowherd.herd.lineage.book.memory import Memory, memory_directory, mount_table
from cowherd.herd.records.faults import HerdNotReadable, OverlaysUnseen
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealwriting import add_places
from tests.herd.lineage.book.layouts import mounted
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu


@pytest.fixture
def far(host):
    """A base, and an overlay of it where nobody would look."""
    base, overlay = host / "bases" / "b.qcow2", host / "elsewhere" / "deep" / "o.qcow2"
    for path in (base, overlay):
        path.parent.mkdir(parents=True)
    make_base(base, noise(65536))
    make_overlay(overlay, base)
    write(overlay, "write -P 1 0 64k")
    return base, overlay


def test_what_nobody_has_seen_is_not_known(far):
    assert dependents_of(far[0]) == []


@pytest.mark.parametrize("look", [lambda path: cowherd.tree([path.parent]), lambda path: cowherd.doctor([path.parent])])
def test_an_overlay_that_any_look_has_found_is_found_again(far, look):
    base, overlay = far
    look(overlay)
    assert dependents_of(base) == [overlay]
    with pytest.raises(BaseInUse) as caught:
        cowherd.resize(base, 1 << 30)
    assert caught.value.dependents == (overlay,)


def test_what_lies_there_is_read_again_before_it_counts(far):
    base, overlay = far
    cowherd.tree([overlay.parent])
    overlay.unlink()
    assert dependents_of(base) == []


def test_an_overlay_that_was_renamed_in_its_directory_is_still_found(far):
    base, overlay = far
    cowherd.tree([overlay.parent])
    overlay.rename(overlay.with_name("new.qcow2"))
    assert dependents_of(base) == [overlay.with_name("new.qcow2")]


def test_overlays_of_overlays_are_found_by_what_is_known_of_both(far, host):
    base, overlay = far
    third = host / "third" / "t.qcow2"
    third.parent.mkdir()
    make_overlay(third, overlay)
    cowherd.tree([third.parent])
    cowherd.tree([overlay.parent])
    assert dependents_of(base) == [overlay, third]


def test_what_is_gone_is_forgotten_and_the_doctor_says_so(far):
    base, overlay = far
    cowherd.tree([overlay.parent])
    shutil.rmtree(overlay.parent)
    found = [finding for finding in cowherd.doctor([base.parent]).findings if finding.kind == "forgotten"]
    assert [finding.path for finding in found] == [overlay.parent]
    assert Memory().recall(str(base.parent)) == ()


def test_nothing_is_remembered_where_the_catalog_is_off(far, monkeypatch):
    monkeypatch.setenv("COWHERD_CATALOG", "off")
    cowherd.tree([far[1].parent])
    assert dependents_of(far[0]) == []


def test_a_memory_that_others_may_write_to_is_not_believed(far):
    base, overlay = far
    cowherd.tree([overlay.parent])
    os.chmod(memory_directory(), 0o777)
    assert dependents_of(base) == []


@pytest.mark.parametrize(
    "line", [b"", b"[]\n", b"{}\n", b'["a","b","c","d"]\n', b'["/\\u0000","/","b","o"]\n', b"[" * 99999, b"\xff\n"]
)
def test_lines_that_make_no_sense_say_nothing(far, line):
    base, overlay = far
    cowherd.tree([overlay.parent])
    with open(os.path.join(memory_directory(), str(base.parent.stat().st_ino)), "ab") as file:
        file.write(line)
    assert dependents_of(base) == [overlay]


def test_what_many_find_at_once_is_all_remembered(host):
    def remember(number: int) -> None:
        Memory().remember(str(host), {(f"/vms/{number}", "b"): f"/vms/{number}/o"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remember, range(64)))
    assert {one.directory for one in Memory().recall(str(host))} == {f"/vms/{number}" for number in range(64)}


def test_a_hard_link_in_another_place_is_known_by_the_overlays_of_the_file(far, host):
    base, overlay = far
    other = host / "published" / "b.qcow2"
    other.parent.mkdir()
    other.hardlink_to(base)
    cowherd.tree([overlay.parent])
    assert dependents_of(other) == [overlay]


def test_a_seal_beside_one_name_counts_for_a_hard_link_far_away(far, host):
    base, _ = far
    other = host / "published" / "b.qcow2"
    other.parent.mkdir()
    other.hardlink_to(base)
    cowherd.seal(base)
    with pytest.raises(BaseSealed):
        cowherd.resize(other, 1 << 30)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_while_the_disk_with_overlays_is_not_mounted_their_base_is_not_changed(host):
    base, disk = host / "b.qcow2", host / "usb"
    make_base(base, noise(65536))
    disk.mkdir()
    with mounted("-t", "tmpfs", "none", disk):
        mount_table.cache_clear()
        make_overlay(disk / "o.qcow2", base)
        cowherd.tree([disk])
        assert dependents_of(base) == [disk / "o.qcow2"]
    mount_table.cache_clear()
    before = base.read_bytes()
    with pytest.raises(OverlaysUnseen, match=f"known to lie in {disk}, which can't be looked at") as caught:
        cowherd.resize(base, 1 << 30)
    assert caught.value.exit_code == 3
    for refused in (lambda: cowherd.trash([base]), lambda: cowherd.move(base, host / "new.qcow2")):
        with pytest.raises((OverlaysUnseen, HerdNotReadable)):
            refused()
    cowherd.seal(base)
    with pytest.raises(OverlaysUnseen):
        cowherd.unseal(base)
    cowherd.unseal(base, force=True)
    assert base.read_bytes() == before
    cowherd.resize(base, 1 << 30, break_dependents=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="root shows what others may not see")
def test_a_place_that_may_not_be_looked_into_is_named(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # pytest's own folders are root's alone
        os.chmod(name, 0o755)
        base, overlay = Path(name, "bases", "b.qcow2"), Path(name, "elsewhere", "deep", "o.qcow2")
        monkeypatch.setenv("COWHERD_CATALOG", f"{name}/catalog")
        monkeypatch.setenv("COWHERD_CEILING", name)
        for path in (base, overlay):
            path.parent.mkdir(parents=True)
        make_base(base, noise(65536))
        make_overlay(overlay, base)
        cowherd.tree([overlay.parent])
        with pytest.raises(BaseInUse):
            cowherd.resize(base, 1 << 30)  # which also loads all that is needed
        os.chown(memory_directory(), 65534, 65534)
        os.chmod(overlay.parent, 0o700)
        os.seteuid(65534)
        try:
            with pytest.raises(OverlaysUnseen, match=str(overlay.parent)):
                cowherd.resize(base, 1 << 30)
        finally:
            os.seteuid(0)


def test_a_seal_remembers_where_overlays_were_made(far, monkeypatch):
    base, overlay = far
    monkeypatch.setenv("COWHERD_CATALOG", "off")
    new = overlay.with_name("new.qcow2")
    cowherd.clone(base, new)
    assert [place.directory for place in read_record(f"{base}.seal").places] == [str(new.parent)]
    assert dependents_of(base) == [new, overlay]
    with pytest.raises(BaseInUse):
        cowherd.unseal(base)


def test_where_base_and_overlays_moved_together_the_seal_still_leads_to_them(host, monkeypatch):
    monkeypatch.setenv("COWHERD_CATALOG", "off")
    base, overlay = host / "site" / "bases" / "b.qcow2", host / "site" / "vms" / "o.qcow2"
    for path in (base, overlay):
        path.parent.mkdir(parents=True)
    make_base(base, noise(65536))
    cowherd.clone(base, overlay)
    (host / "site").rename(host / "moved")
    monkeypatch.setenv("COWHERD_CEILING", str(host / "moved"))
    assert dependents_of(host / "moved" / "bases" / "b.qcow2") == [host / "moved" / "vms" / "o.qcow2"]


def test_several_clones_at_once_lose_no_place(host):
    base = make_base(host / "b.qcow2", noise(65536))
    cowherd.seal(base)
    script = "import sys, cowherd; cowherd.clone(sys.argv[1], sys.argv[2])"
    jobs = []
    for number in range(8):
        (host / f"vm{number}").mkdir()
        jobs.append(subprocess.Popen([sys.executable, "-c", script, base, host / f"vm{number}" / "disk"]))
    assert [job.wait() for job in jobs] == [0] * 8
    assert {place.directory for place in read_record(f"{base}.seal").places} == {str(host / f"vm{n}") for n in range(8)}


def test_very_many_places_in_one_directory_are_named_by_it(host):
    base = make_base(host / "b.qcow2", noise(65536))
    cowherd.seal(base)
    for number in range(40):
        (host / "vms" / f"{number}").mkdir(parents=True)
        from cowherd.herd.lineage.book.seals import places_of

        add_places(f"{base}.seal", places_of(str(base), [str(host / "vms" / f"{number}" / "disk")]))
    (place,) = read_record(f"{base}.seal").places
    assert (place.directory, place.below) == (str(host / "vms"), True)
    make_overlay(host / "vms" / "39" / "disk", base)
    assert dependents_of(base) == [host / "vms" / "39" / "disk"]


def test_what_is_given_up_stands_in_nobody_s_way(host):
    base = make_base(host / "b.qcow2", noise(65536))
    (host / "usb").mkdir()
    cowherd.clone(base, host / "usb" / "o.qcow2")
    os.rename(host / "usb", host / "gone")
    (host / "usb").write_bytes(b"no directory")
    from cowherd.herd.lineage.book.forgetting import give_up

    assert give_up(host / "usb", [base]) == 1
    assert read_record(f"{base}.seal").places == ()


def test_the_disks_of_libvirt_s_domains_and_its_pools_are_looked_at(far, host, monkeypatch, tmp_path):
    base, overlay = far
    pooled = host / "pool" / "p.qcow2"
    pooled.parent.mkdir()
    make_overlay(pooled, base)
    defined, pools = tmp_path / "etc/libvirt/qemu", tmp_path / "etc/libvirt/storage"
    defined.mkdir(parents=True)
    pools.mkdir()
    (defined / "web.xml").write_text(
        f"<domain><devices><disk><source file='{overlay}'/></disk><disk><source file='/none'/></disk></devices></domain>"
    )
    (pools / "p.xml").write_text(f"<pool type='dir'><target><path>{pooled.parent}</path></target></pool>")
    monkeypatch.setenv("COWHERD_LIBVIRT_ROOT", str(tmp_path))
    assert dependents_of(base) == [overlay, pooled]


@pytest.mark.qemu("qemu-nbd")
def test_what_a_machine_has_open_beside_its_base_is_looked_at(far, tmp_path):
    base, overlay = far
    socket = tmp_path / "socket"
    machine = subprocess.Popen(["qemu-nbd", "-r", "-f", "qcow2", "-k", socket, "-t", overlay])
    try:
        for _ in range(500):
            if dependents_of(base):
                break
            time.sleep(0.01)
        assert dependents_of(base) == [overlay]
    finally:
        machine.terminate()
        machine.wait()
