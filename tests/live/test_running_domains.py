"""Domains of a real libvirtd: libvirt has their monitors, so /proc alone says what they run on."""

from __future__ import annotations

import os

import pytest

from cowherd.live.kernel_holders import key_of
from cowherd.live.running import look_at_all
from cowherd.live.running_faults import Fault, faults_of
from tests.herd.qemu_herd import make_base, make_overlay, noise
from tests.live import libvirt
from tests.live.machines import machine
from tests.live.test_running import kinds, named


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    libvirt.require()
    with libvirt.libvirtd(tmp_path_factory.mktemp("libvirt")) as running:
        yield running


@pytest.fixture
def domain(daemon, tmp_path):
    """A domain that runs on an overlay; gives the directory of its images."""
    make_base(tmp_path / "base", noise(1 << 20))
    make_overlay(tmp_path / "web", "base")
    daemon.define("web", tmp_path / "web")
    daemon.virsh("start", "web", "--paused")
    yield tmp_path
    daemon.virsh("destroy", "web")
    daemon.virsh("undefine", "web", "--snapshots-metadata")


def look(directory):
    return look_at_all({key_of(os.stat(directory / "base"))})


def test_a_domain_is_called_so_and_its_monitor_is_left_to_libvirt(domain):
    seen = look(domain)
    (one,) = seen.all
    assert (one.domain, one.holder.machine, one.is_machine) == ("web", "web", True)
    assert (one.monitors, one.asked, one.monitor_error) == ((), False, None)
    assert [named(disk.opened) for disk in one.disks] == [["web", "base"]]
    assert faults_of(seen) == []


def test_after_a_snapshot_that_libvirt_made_the_domain_runs_on_the_new_overlay(daemon, domain):
    daemon.virsh("snapshot-create-as", "web", "s", "--disk-only", "--diskspec", f"vda,file={domain}/web.s")
    seen = look(domain)
    assert [named(disk.opened) for disk in seen.all[0].disks] == [["web.s", "web", "base"]]
    assert faults_of(seen) == []


def test_what_is_replaced_under_a_domain_is_told(domain):
    (domain / "new").write_bytes((domain / "web").read_bytes())
    os.rename(domain / "new", domain / "web")
    found = faults_of(look(domain))
    assert (Fault.REPLACED, f"{domain}/web") in [(one.fault, one.image) for one in found]


def test_what_is_deleted_under_a_domain_is_told(domain):
    os.unlink(domain / "web")
    assert Fault.DELETED in kinds(faults_of(look(domain)))


def test_a_machine_that_somebody_started_by_hand_on_an_image_of_libvirts_is_no_domain(tmp_path):
    images = tmp_path / "libvirt" / "images"
    images.mkdir(parents=True)
    make_base(images / "base", noise(1 << 16))
    with machine(tmp_path, "-name", "web", "-drive", f"file={images}/base,if=virtio", monitor="monitor"):
        (one,) = look(images).all
    assert (one.domain, one.holder.machine, one.asked) == ("", "web", True)
