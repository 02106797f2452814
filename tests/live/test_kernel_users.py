"""What the kernel itself has open: loop devices, network block devices, and what stands on them."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from cowherd.live import kernel_holders, kernel_users
from cowherd.live.kernel_holders import key_of
from cowherd.live.kernel_users import KernelUser
from cowherd.live.running import look_at_all
from cowherd.live.running_faults import Fault, faults_of
from tests.herd.qemu_herd import noise
from tests.live.machines import machine, nbd_server
from tests.storage.hosts import loop_device, mounted


@pytest.fixture
def disk(tmp_path):
    """A raw image."""
    path = tmp_path / "disk"
    path.write_bytes(noise(1 << 20))
    return path


def users_of(disk):
    return look_at_all({key_of(os.stat(disk))})


@pytest.mark.parametrize(("options", "writing"), [([], True), (["--read-only"], False)])
def test_a_loop_device_is_a_user_with_its_image(disk, options, writing):
    key = key_of(os.stat(disk))
    with loop_device(disk, *options) as device:
        seen = users_of(disk)
        without_choice = look_at_all()
    user = KernelUser(device.name, os.fspath(disk), key, writing)
    assert (seen.all, seen.kernel) == ((), (user,))
    assert user in without_choice.kernel
    assert faults_of(seen) == []


def test_a_loop_device_of_another_file_is_not_shown_where_one_is_asked_for(disk, tmp_path):
    (tmp_path / "other").write_bytes(noise(1 << 16))
    with loop_device(disk):
        assert users_of(tmp_path / "other").kernel == ()


def test_what_is_mounted_from_a_loop_device_is_told(tmp_path):
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 1 << 20)
    subprocess.run(["mkfs.ext2", "-q", image], check=True)
    with mounted(image, tmp_path / "here"):
        (user,) = users_of(image).kernel
    assert user.uses == (f"mounted on {tmp_path}/here",)


def test_the_name_of_a_deleted_file_is_told_as_such(disk):
    key = key_of(os.stat(disk))
    with loop_device(disk) as device:
        os.unlink(disk)
        seen = look_at_all({key})
    assert [(user.path, user.gone) for user in seen.kernel] == [(os.fspath(disk), True)]
    assert [(one.fault, one.image) for one in faults_of(seen)] == [(Fault.DELETED, os.fspath(disk))]
    assert device.name in faults_of(seen)[0].detail


def test_a_file_that_took_the_name_of_a_loop_devices_is_told(disk, tmp_path):
    key = key_of(os.stat(disk))
    with loop_device(disk):
        os.rename(disk, tmp_path / "kept")
        shutil.copy(tmp_path / "kept", disk)
        os.unlink(tmp_path / "kept")
        seen = look_at_all({key})
        with loop_device(disk, "--read-only"):
            both = [user.gone for user in look_at_all({key, key_of(os.stat(disk))}).kernel]
    assert [one.fault for one in faults_of(seen)] == [Fault.DELETED]
    assert sorted(both) == [False, True]


@pytest.mark.qemu("qemu-system-x86_64")
def test_a_machine_and_a_loop_device_that_write_to_one_image_are_two_writers(disk):
    words = ("-drive", f"file={disk},format=raw,if=virtio")
    with machine(disk.parent, *words) as process, loop_device(disk) as device:
        found = faults_of(users_of(disk))
    assert [one.fault for one in found] == [Fault.TWO_WRITERS]
    assert f"pid {process.pid}" in found[0].detail
    assert f"the kernel ({device.name})" in found[0].detail


@pytest.mark.qemu("qemu-system-x86_64")
def test_a_block_device_that_a_machine_has_is_a_disk_of_it(disk):
    with loop_device(disk) as device, machine(disk.parent, "-drive", f"file={device},format=raw,if=virtio") as process:
        seen = look_at_all({key_of(os.stat(device))})
    assert [(one.pid, [image.path for image in one.images]) for one in seen.all] == [(process.pid, [os.fspath(device)])]


@pytest.mark.qemu("qemu-system-x86_64")
def test_what_is_mounted_from_a_block_device_that_a_machine_has_is_told(tmp_path):
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 1 << 20)
    subprocess.run(["mkfs.ext2", "-q", image], check=True)
    with mounted(image, tmp_path / "here"):
        device = f"/dev/{users_of(image).kernel[0].name}"
        with machine(tmp_path, "-drive", f"file={device},format=raw,if=virtio,readonly=on"):
            seen = look_at_all({key_of(os.stat(device))})
    assert [(user.path, user.uses) for user in seen.kernel] == [(device, (f"mounted on {tmp_path}/here",))]


def test_a_network_block_device_is_served_by_a_process(disk, tmp_path, monkeypatch):
    """The kernel of a test has no such device; sysfs says of one what stands here."""
    for name, files in {
        "nbd0": {"pid": "{pid}\n", "ro": "1\n", "dev": "43:0\n"},
        "nbd1": {"ro": "0\n", "dev": "43:16\n"},
    }.items():
        (tmp_path / "block" / name).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / "block" / name / file).write_text(text.format(pid=os.getpid()))
    for module in (kernel_holders, kernel_users):
        monkeypatch.setattr(module, "BLOCK", os.fspath(tmp_path / "block"))
    assert look_at_all().kernel == (KernelUser("nbd0", "", None, writing=False, pid=os.getpid()),)
    assert users_of(disk).kernel == (), "this process has none of its files open as an image"


@pytest.mark.qemu("qemu-nbd")
def test_with_an_image_the_network_block_device_of_its_server_is_shown(disk, tmp_path, monkeypatch):
    block = tmp_path / "block" / "nbd0"
    block.mkdir(parents=True)
    (block / "ro").write_text("0\n")
    (block / "dev").write_text("43:0\n")
    for module in (kernel_holders, kernel_users):
        monkeypatch.setattr(module, "BLOCK", os.fspath(tmp_path / "block"))
    with nbd_server(tmp_path, "-f", "raw", os.fspath(disk)) as server:
        (block / "pid").write_text(f"{server}\n")
        seen = users_of(disk)
    assert [one.pid for one in seen.all] == [user.pid for user in seen.kernel] == [server]
