"""Remedies of what other work, libvirt or a machine has left: pasted into a shell, they end the finding."""

from __future__ import annotations

import os

import pytest

from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.seals.seal import seal
from cowherd.herd.trash.trash import trash
from cowherd.live.libvirt_records import ROOT_VARIABLE
from cowherd.storage.protection import Protection
from tests.herd.doctor.remedies import cure, kinds, paste, printed_remedies
from tests.herd.merge.herds import contents, killed_at
from tests.herd.qemu_herd import content, make_base, noise, write
from tests.live.machines import machine

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
DOMAIN = """<domain type='qemu'><name>web</name><devices><disk type='file' device='disk'>
<driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda'/></disk></devices></domain>"""


@pytest.fixture
def herd(tmp_path):
    """A sealed base with the overlays `web` and `mail`, all in order."""
    herd = tmp_path / "vm's"
    herd.mkdir()
    make_base(herd / "base", noise(MIB))
    for name in ("web", "mail"):
        clone(herd / "base", herd / name)
        write(herd / name, "write -P 2 100k 64k")
    seal(herd / "base", level=Protection.READONLY)
    return herd


@pytest.mark.parametrize("moment", [5, 30])
def test_a_merge_that_was_killed_is_ended(herd, moment):
    disks = {name: herd / name for name in ("web", "mail")}
    before = contents(disks)
    assert killed_at(moment, lambda: merge(herd / "web", keep="content"))
    assert Kind.MERGE_INTERRUPTED in kinds(herd)
    cure(herd, Kind.MERGE_INTERRUPTED)
    assert contents(disks) == before


def test_a_disk_of_a_domain_comes_back_from_the_trash(herd, tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    (tmp_path / "root/etc/libvirt/qemu").mkdir(parents=True)
    (tmp_path / "root/etc/libvirt/qemu/web.xml").write_text(DOMAIN.format(disk=herd / "web").replace("vm's", "vm&apos;s"))
    trash(herd / "web", force=True)
    cure(herd, Kind.DOMAIN_WITHOUT_DISK)
    assert (herd / "web").exists()


@pytest.mark.qemu("qemu-io", "qemu-system-x86_64")
@pytest.mark.parametrize("kind", [Kind.RUNNING_ON_DELETED, Kind.RUNNING_ON_REPLACED])
def test_the_disk_of_a_machine_that_has_lost_its_name_is_saved_before_the_machine_ends(herd, kind):
    """The finding itself is one of the machine: it ends with that, and the disk is there again."""
    before = content(herd / "web")
    with machine(herd, "-drive", "file=web,if=virtio"):
        if kind is Kind.RUNNING_ON_DELETED:
            (herd / "web").unlink()
        else:
            clone(herd / "base", herd / "new")
            os.rename(herd / "new", herd / "web")
        (remedy,) = printed_remedies(herd, kind)
        paste(remedy)
        assert content(herd / "web.rescued") == before
    os.rename(herd / "web.rescued", herd / "web")
    assert content(herd / "web") == before
    assert doctor([herd]).findings == ()
