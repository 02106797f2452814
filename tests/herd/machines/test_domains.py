"""Disks that libvirt's domains name: a real libvirtd defines, saves and snapshots the domains, and is told of what changes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from cowherd import changes
from cowherd.cli.guard.main import main
from cowherd.errors import ImageInUse
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.herd.machines import domains as module
from cowherd.herd.machines.domains import DiskOfDomain, DomainNotRedefined, DomainSaved
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.trash.gc import gc
from cowherd.herd.trash.trash import purge, trash
from cowherd.live.libvirt_records import ROOT_VARIABLE
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write
from tests.live import libvirt

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    libvirt.require()
    scratch = tmp_path_factory.mktemp("libvirt")
    with libvirt.libvirtd(scratch) as running:
        for place, name in (("etc/libvirt", "etc"), ("var/lib/libvirt", "var"), ("run/libvirt", "run")):
            (running.root / place).parent.mkdir(parents=True, exist_ok=True)
            if not (running.root / place).is_symlink():
                (running.root / place).symlink_to(scratch / name)
        yield running


@pytest.fixture
def host(daemon, monkeypatch):
    """The daemon; its domains are gone afterwards."""
    monkeypatch.setenv(ROOT_VARIABLE, str(daemon.root))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", daemon.uri)
    yield daemon
    for name in daemon.running():
        daemon.virsh("destroy", name)
    for name in daemon.virsh("list", "--all", "--name").split():
        daemon.virsh("undefine", name, "--managed-save", "--snapshots-metadata", "--checkpoints-metadata")


@pytest.fixture
def herd(tmp_path):
    """A sealed base with the overlays `web` and `other`."""
    seal(make_base(tmp_path / "base", noise(MIB)))
    for name in ("web", "other"):
        clone(tmp_path / "base", tmp_path / name, seal_base=False)
    write(tmp_path / "web", "write -P 2 100k 64k")
    return tmp_path


def disk_of(host, name: str) -> tuple[str, str]:
    """The file and the format of a domain's disk, as libvirt has them."""
    xml = host.virsh("dumpxml", "--inactive", name)
    return re.search(r"<source file='([^']*)'", xml)[1], re.search(r"<driver name='qemu' type='(\w+)'", xml)[1]


CHANGES = {
    "delete": lambda herd: trash([herd / "web"]),
    "purge": lambda herd: purge([herd / "web"]),
    "move": lambda herd: move(herd / "web", herd / "moved"),
    "promote": lambda herd: promote(herd / "web", herd / "golden", chained=True),
    "merge": lambda herd: merge(herd / "web", strategy="preserve"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_disk_of_a_domain_that_is_shut_off_is_in_use_by_its_record(host, herd, name):
    host.define("web", herd / "web")
    before = {path: path.read_bytes() for path in herd.iterdir() if path.is_file()}
    with pytest.raises(DiskOfDomain, match="the libvirt domain web names it as vda") as refused:
        CHANGES[name](herd)
    assert refused.value.exit_code == 3
    assert (refused.value.domain, refused.value.target) == ("web", "vda")
    assert {path: path.read_bytes() for path in herd.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", CHANGES)
def test_a_disk_that_no_domain_names_is_free(host, herd, name):
    host.define("another", herd / "other")
    CHANGES[name](herd)


def test_a_domain_is_found_by_another_name_of_its_disk(host, herd, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "link").symlink_to(herd / "web")
    host.define("web", elsewhere / "link")
    with pytest.raises(DiskOfDomain):
        trash([herd / "web"])
    trash([herd / "web"], force=True)


def test_a_merge_that_keeps_the_overlay_goes_on(host, herd):
    host.define("web", herd / "web")
    before = content(herd / "web")
    merge(herd / "web", strategy="preserve", keep="empty")
    assert content(herd / "web") == before
    host.virsh("start", "web")


def test_a_move_has_libvirt_redefine_the_domain(host, herd):
    host.define("web", herd / "web")
    (herd / "there").mkdir()
    move(herd / "web", herd / "there", update_domains=True)
    assert disk_of(host, "web") == (str(herd / "there" / "web"), "qcow2")
    host.virsh("start", "web")


def test_a_frozen_raw_disk_has_its_domain_told_that_it_is_an_overlay_now(host, herd):
    disk = make_base(herd / "disk.raw", noise(MIB, 5), format="raw")
    host.define("raw", disk)
    xml = host.virsh("dumpxml", "raw").replace("type='qcow2'", "type='raw'")
    (herd / "raw.xml").write_text(xml)
    host.virsh("define", herd / "raw.xml")
    before = content(disk, "raw")
    promote(disk, herd / "golden.raw", chained=True, update_domains=True)
    assert disk_of(host, "raw") == (str(disk), "qcow2")
    assert content(disk) == before
    host.virsh("start", "raw")


def test_a_merge_has_the_domain_use_what_its_disk_was_merged_into(host, herd):
    host.define("web", herd / "web")
    before, other = content(herd / "web"), content(herd / "other")
    merge(herd / "web", strategy="fork", update_domains=True)
    base, _ = disk_of(host, "web")
    assert not (herd / "web").exists()
    assert content(Path(base)) == before
    assert content(herd / "other") == other


def test_the_domain_keeps_its_passwords_and_what_libvirt_does_not_know(host, herd):
    host.define("web", herd / "web")
    xml = host.virsh("dumpxml", "web").replace(
        "<domain type='qemu'>", "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
    )
    graphics = "<graphics type='vnc' passwd='secret'/></devices><qemu:commandline><qemu:arg value='-S'/></qemu:commandline>"
    (herd / "web.xml").write_text(xml.replace("</devices>", graphics))
    host.virsh("define", herd / "web.xml")
    move(herd / "web", herd / "moved", update_domains=True)
    after = host.virsh("dumpxml", "--security-info", "web")
    assert "passwd='secret'" in after
    assert "<qemu:arg value='-S'/>" in after
    assert str(herd / "moved") in after


def test_what_libvirt_does_not_take_leaves_the_image_under_both_names(host, herd, monkeypatch):
    host.define("web", herd / "web")
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu+unix:///system?socket=/nowhere")
    with pytest.raises(DomainNotRedefined, match="virsh edit web"):
        move(herd / "web", herd / "moved", update_domains=True)
    assert os.path.samefile(herd / "web", herd / "moved")
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", host.uri)
    move(herd / "web", herd / "moved", update_domains=True)
    assert disk_of(host, "web")[0] == str(herd / "moved")
    assert not (herd / "web").exists()


def test_the_disk_of_a_saved_machine_keeps_its_content_and_its_place(host, herd):
    host.define("web", herd / "web")
    host.virsh("start", "web")
    host.virsh("managedsave", "web")
    disk = herd / "web"
    for work in (
        lambda: changes.resize(disk, 2 * MIB),
        lambda: changes.create(disk, MIB),
        lambda: changes.convert(herd / "other", disk, target_format="qcow2"),
        lambda: changes.rebase(disk, None, unsafe=True),
        lambda: changes.delete(disk),
        lambda: changes.open(disk, writable=True),
        lambda: move(disk, herd / "moved", update_domains=True),
    ):
        with pytest.raises((DomainSaved, DiskOfDomain), match="web"):
            work()
    assert changes.rebase(disk, str(herd / "base"), backing_format="qcow2") is not None
    assert "restored" in host.virsh("start", "web") or host.running() == ["web"]


def test_the_base_that_is_a_saved_machines_disk_is_not_brought_back_under_it(host, herd):
    host.define("base", herd / "base")
    host.virsh("start", "base")
    host.virsh("managedsave", "base")
    write(herd / "base", "write -P 9 0 64k")
    with pytest.raises(DomainSaved):
        repair(herd / "base")


def test_what_snapshots_and_checkpoints_name_is_in_use_too(host, herd):
    host.define("web", herd / "web")
    host.virsh("start", "web")
    host.virsh("snapshot-create-as", "web", "before", "--disk-only", "--diskspec", f"vda,file={herd}/top")
    host.virsh("destroy", "web")
    with pytest.raises(DiskOfDomain, match=r"names it as (vda's backing file|snapshot before, vda)"):
        move(herd / "web", herd / "moved")
    with pytest.raises(DiskOfDomain, match=r"snapshot before, vda\. --update-domains can't change that"):
        move(herd / "top", herd / "moved", update_domains=True)


def test_a_host_without_virsh_says_so(host, herd, monkeypatch):
    host.define("web", herd / "web")
    namings = [naming for _, naming in module.named_by_domains([herd / "web"])]
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nowhere")
        with pytest.raises(DomainNotRedefined, match="virsh"):
            module.redefine(namings, herd / "new")


def test_the_commands_end_with_3(host, herd):
    host.define("web", herd / "web")
    for words in (
        ["rename", "web", "x"],
        ["move", "web", "x"],
        ["delete", "web"],
        ["merge", "web"],
        ["promote", "--chained", "web", "x"],
    ):
        command = ["python3", "-m", "cowherd.cli.guard.main", *words]
        done = subprocess.run([os.sys.executable, *command[1:]], cwd=herd, capture_output=True, text=True, check=False)
        assert (done.returncode, "libvirt domain web names it as vda" in done.stderr) == (3, True), done
    command = [os.sys.executable, "-m", "cowherd.cli.guard.main", "rename", "web", "x", "--update-domains"]
    assert subprocess.run(command, cwd=herd, capture_output=True, check=False).returncode == 0
    assert disk_of(host, "web")[0] == str(herd / "x")


def kinds_at(directory: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in doctor([directory]).findings:
        found.setdefault(finding.kind.value, []).append(finding.path.name)
    return found


def test_the_doctor_and_gc_know_which_disks_have_domains_and_which_domains_have_disks(host, herd):
    assert not {"unnamed-disk", "domain-without-disk"} & kinds_at(herd).keys()
    host.define("web", herd / "web")
    host.define("gone", herd / "gone")
    found = kinds_at(herd)
    assert (found["unnamed-disk"], found["domain-without-disk"]) == (["other"], ["gone"])
    assert [(one.sort.value, one.path.name) for one in gc([herd])] == [("unnamed-disk", "other")]


def test_a_disk_of_a_domain_that_was_deleted_is_brought_back_by_the_remedy(host, herd):
    host.define("web", herd / "web")
    trash([herd / "web"], force=True)
    (finding,) = [one for one in doctor([herd]).findings if one.kind is Kind.DOMAIN_WITHOUT_DISK]
    assert main(list(finding.remedy[1:])) == 0
    assert "domain-without-disk" not in kinds_at(herd)


def test_gc_offers_nothing_that_a_domain_names(host, herd):
    seal(make_base(herd / "alone", noise(MIB)))
    (herd / "orphan").write_bytes(make_overlay(herd / "lost", make_base(herd / "short-lived", noise(MIB))).read_bytes())
    (herd / "short-lived").unlink()
    (herd / "lost").unlink()
    assert {one.path.name for one in gc([herd])} == {"alone", "orphan"}
    host.define("one", herd / "alone")
    host.define("two", herd / "orphan")
    assert {one.path.name for one in gc([herd])} & {"alone", "orphan"} == set()


def test_the_parent_of_a_live_snapshot_is_not_to_be_sealed_and_a_base_of_others_is(host, tmp_path):
    disk = make_base(tmp_path / "disk", noise(MIB))
    host.define("web", disk)
    host.virsh("start", "web")
    host.virsh("snapshot-create-as", "web", "before", "--disk-only", "--no-metadata", "--diskspec", f"vda,file={tmp_path}/top")
    assert "unsealed-base" not in kinds_at(tmp_path)
    host.virsh("blockcommit", "web", "vda", "--active", "--pivot", "--wait")
    host.virsh("destroy", "web")
    assert kinds_at(tmp_path).get("unsealed-base") == ["disk"]


def test_a_running_domain_is_named_by_what_it_is(host, herd):
    host.define("web", herd / "web")
    host.virsh("start", "web")
    with pytest.raises(ImageInUse, match=r"qemu-system-x86_64 \(pid \d+, user [^,]+, domain web, since .*, writing\)"):
        changes.resize(herd / "web", 2 * MIB)
