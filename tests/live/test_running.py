"""What runs on which images, of real machines and of others that have images open."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from cowherd.errors import InvalidRequest
from cowherd.live import qmp
from cowherd.live.kernel_holders import key_of
from cowherd.live.running import look_at_all
from cowherd.live.running_faults import Fault, faults_of
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write
from tests.live.machines import machine, nbd_server
from tests.live.test_qmp import client_of
from tests.qmp import Monitor
from tests.storage.hosts import running

pytestmark = pytest.mark.qemu("qemu-system-x86_64", "qemu-storage-daemon")

MONITORS = pytest.mark.parametrize("monitor", ["monitor", None], ids=["asked", "from /proc alone"])


@pytest.fixture
def herd(tmp_path):
    """A base with two overlays."""
    make_base(tmp_path / "base", noise(1 << 20))
    for name in ("a", "b"):
        make_overlay(tmp_path / name, "base")
    return tmp_path


def look(herd):
    """What runs on the files that were in the directory when it was asked for the first time."""
    return look_at_all({key_of(os.stat(path)) for path in herd.rglob("*")})


def named(layers) -> list[str]:
    return [os.path.basename(layer.name) for layer in layers]


def kinds(found) -> list[Fault]:
    return [one.fault for one in found]


@MONITORS
def test_a_machine_has_its_chain_as_the_headers_say(herd, monitor):
    with machine(herd, "-name", "web", "-drive", "file=a,if=virtio,format=qcow2", monitor=monitor) as process:
        seen = look(herd)
    (one,) = seen.all
    assert (one.pid, one.holder.machine, one.is_machine, one.asked) == (process.pid, "web", True, monitor is not None)
    (disk,) = one.disks
    assert named(disk.opened) == named(disk.on_disk) == ["a", "base"]
    assert not disk.differs
    assert {os.path.basename(image.path): (image.writing, image.locking) for image in one.images} == {
        "a": (True, True),
        "base": (False, True),
    }


@MONITORS
@pytest.mark.parametrize(
    "words",
    [
        ("-blockdev", "qcow2,node-name=x,file.driver=file,file.filename=a", "-device", "virtio-blk,drive=x"),
        ("-hda", "a"),
        ("-object", "iothread,id=t", "-drive", "file=a,if=none,id=x", "-device", "virtio-blk-pci,drive=x,iothread=t"),
    ],
    ids=["blockdev", "hda", "iothread"],
)
def test_however_a_disk_is_given_its_chain_is_seen(herd, monitor, words):
    with machine(herd, *words, monitor=monitor):
        (one,) = look(herd).all
    assert [named(disk.opened) for disk in one.disks] == [["a", "base"]]


@MONITORS
def test_two_disks_on_one_base_are_two_chains(herd, monitor):
    with machine(herd, "-drive", "file=a,if=virtio", "-drive", "file=b,if=virtio", monitor=monitor):
        seen = look(herd)
    assert sorted(named(disk.opened) for disk in seen.all[0].disks) == [["a", "base"], ["b", "base"]]
    assert faults_of(seen) == []


def test_a_storage_daemon_is_asked_too(herd):
    words = ("--blockdev", "file,node-name=f,filename=a", "--blockdev", "qcow2,node-name=q,file=f")
    ready = ("--chardev", "socket,path={},server=on,wait=off,id=m", "--monitor", "chardev=m")
    with machine(herd, *words, command=("qemu-storage-daemon",), ready=ready):
        (one,) = look(herd).all
    assert one.asked
    assert [named(disk.opened) for disk in one.disks] == [["a", "base"]]


@MONITORS
@pytest.mark.parametrize("equal", [True, False], ids=["by an equal copy", "by another"])
def test_a_base_that_was_replaced_under_a_machine_is_told(herd, monitor, equal):
    with machine(herd, "-drive", "file=a,if=virtio", monitor=monitor) as process:
        shutil.copy(herd / "base", herd / "new") if equal else make_base(herd / "new", noise(1 << 20, 1))
        os.rename(herd / "new", herd / "base")
        found = faults_of(look(herd))
    assert (Fault.REPLACED, process.pid, os.fspath(herd / "base")) in [(one.fault, one.pid, one.image) for one in found]


@MONITORS
def test_a_disk_that_was_deleted_under_a_machine_is_told(herd, monitor):
    with machine(herd, "-drive", "file=a,if=virtio", monitor=monitor) as process:
        os.unlink(herd / "a")
        found = faults_of(look(herd))
    assert (Fault.DELETED, process.pid, os.fspath(herd / "a")) in [(one.fault, one.pid, one.image) for one in found]


@MONITORS
def test_a_base_that_was_moved_under_a_machine_is_where_its_header_does_not_lead(herd, monitor):
    with machine(herd, "-drive", "file=a,if=virtio", monitor=monitor):
        os.rename(herd / "base", herd / "moved")
        found = faults_of(look(herd))
    assert set(kinds(found)) & {Fault.CHAIN_DIFFERS, Fault.DELETED}


@MONITORS
def test_a_header_that_names_another_base_than_the_machine_has_is_told(herd, monitor):
    make_base(herd / "other", noise(1 << 20, 1))
    with machine(herd, "-drive", "file=a,if=virtio", monitor=monitor):
        name_other_base(herd / "a")
        found = faults_of(look(herd))
    assert kinds(found) == [Fault.CHAIN_DIFFERS]
    assert "other" in found[0].detail


def name_other_base(image) -> None:
    """Changes the base's name in the header of an image to `other`, as somebody does who minds no lock."""
    at = int.from_bytes(image.read_bytes()[8:16], "big")
    with image.open("r+b") as file:
        file.seek(16)
        file.write((5).to_bytes(4, "big"))
        file.seek(at)
        file.write(b"other")


@MONITORS
def test_a_machine_without_locks_is_told(herd, monitor):
    with machine(herd, "-drive", "file=a,if=virtio,file.locking=off", monitor=monitor) as process:
        found = faults_of(look(herd))
    assert [(one.fault, one.pid, os.path.basename(one.image)) for one in found] == [(Fault.NO_LOCKS, process.pid, "a")]


def test_two_that_can_write_to_one_image_are_told(herd):
    with (
        machine(herd, "-drive", "file=a,if=virtio,file.locking=off"),
        machine(herd, "-drive", "file=a,if=virtio,file.locking=off"),
    ):
        found = faults_of(look(herd))
    assert kinds(found)[0] is Fault.TWO_WRITERS


def test_a_machine_that_is_stopped_does_not_answer(herd, monkeypatch):
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.6)
    with machine(herd, "-drive", "file=a,if=virtio", monitor="monitor") as process:
        process.send_signal(signal.SIGSTOP)
        seen = look(herd)
        process.send_signal(signal.SIGCONT)
    assert kinds(faults_of(seen)) == [Fault.NOT_ANSWERING]
    assert [named(disk.opened) for disk in seen.all[0].disks] == [["a", "base"]]


def test_a_mirror_that_is_ready_waits_for_somebody(herd):
    qemu_img("create", "-q", "-f", "qcow2", herd / "copy", "1M")
    with machine(herd, "-drive", "file=a,if=virtio,id=disk", monitor="monitor"):
        talk = Monitor(herd / "monitor")
        talk(
            "drive-mirror",
            **{"job-id": "job", "device": "disk", "target": os.fspath(herd / "copy"), "mode": "existing"},
            sync="full",
        )
        while talk("query-jobs")[0]["status"] != "ready":
            pass
        talk.close()
        seen = look(herd)
    found = faults_of(seen)
    assert kinds(found) == [Fault.JOB_WAITING]
    assert (seen.all[0].jobs[0].id, seen.all[0].jobs[0].status) == ("job", "ready")


def test_another_program_that_has_an_image_open_is_seen_with_what_it_may_do(herd):
    with subprocess.Popen([sys.executable, "-c", "import sys; f = open('b', 'rb'); print(flush=True); sys.stdin.read()"],
                          cwd=herd, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        process.stdout.readline()
        (one,) = look(herd).all
        process.communicate(b"")
    assert (one.pid, one.is_machine) == (process.pid, False)
    assert [(os.path.basename(image.path), image.writing, image.locking) for image in one.images] == [("b", False, False)]


def test_this_process_is_none_of_them(herd):
    with HostFile.open(herd / "a", writable=True, lock=WRITE):
        assert look(herd).all == ()


MAPS = (
    "import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDWR);"
    "memory = [mmap.mmap(fd, 4096, mmap.MAP_SHARED, getattr(mmap, word) | mmap.PROT_READ) for word in sys.argv[2].split()];"
    "os.close(fd); os.closerange(3, 99); print('mapped', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("access", "writing"),
    [("PROT_READ", False), ("PROT_WRITE", True), ("PROT_READ PROT_WRITE", True), ("PROT_WRITE PROT_READ", True)],
)
def test_a_program_that_has_an_image_only_in_its_memory_is_seen(herd, access, writing):
    with running(sys.executable, "-c", MAPS, herd / "b", access, until="mapped") as process:
        seen, all_of_them = look(herd), look_at_all()
    assert process.pid in [one.pid for one in all_of_them.all]
    (one,) = seen.all
    assert [(os.path.basename(image.path), image.writing, image.mapped) for image in one.images] == [("b", writing, True)]
    assert [named(disk.opened) for disk in one.disks] == [["b"]]


def test_what_one_has_open_as_a_disk_another_is_seen_to_have_in_its_memory(herd):
    (herd / "raw").write_bytes(noise(1 << 16))
    with (
        running(sys.executable, "-c", MAPS, herd / "raw", "PROT_WRITE", until="mapped") as process,
        machine(herd, "-drive", "file=raw,format=raw,if=virtio") as qemu,
    ):
        ours = {one.pid for one in look_at_all().all} & {process.pid, qemu.pid}
        found = faults_of(look(herd))
    assert ours == {process.pid, qemu.pid}
    assert kinds(found) == [Fault.TWO_WRITERS]


def test_a_server_of_network_block_devices_has_its_chain(herd):
    with nbd_server(herd, "-f", "qcow2", os.fspath(herd / "a")) as pid:
        seen = look_at_all({key_of(os.stat(herd / "a"))})
    assert [(one.pid, one.is_machine, [named(disk.opened) for disk in one.disks]) for one in seen.all] == [
        (pid, True, [["a", "base"]])
    ]
    assert faults_of(seen) == []


def test_the_exports_of_a_storage_daemon_are_shown(herd):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE")
    (herd / "mounted").touch()
    words = ("--blockdev", "file,node-name=f,filename=a", "--blockdev", "qcow2,node-name=q,file=f")
    served = ("--nbd-server", "addr.type=unix,addr.path=nbd", "--export", "nbd,id=n,node-name=q")
    mounted = ("--export", f"fuse,id=m,node-name=q,mountpoint={herd / 'mounted'},writable=off")
    ready = ("--chardev", "socket,path={},server=on,wait=off,id=m", "--monitor", "chardev=m")
    wanted = {key_of(os.stat(herd / "a"))}
    with machine(herd, *words, *served, *mounted, command=("qemu-storage-daemon",), ready=ready) as process:
        seen = look_at_all(wanted)
    subprocess.run(["umount", herd / "mounted"], check=False, capture_output=True)  # what the killed daemon left
    (one,) = seen.all
    assert one.pid == process.pid
    assert sorted((export.id, export.type, export.node) for export in one.exports) == [("m", "fuse", "q"), ("n", "nbd", "q")]
    assert faults_of(seen) == []


def test_a_disk_that_is_plugged_into_a_running_machine_is_seen(herd):
    with machine(herd, "-drive", "file=a,if=virtio", monitor="monitor"):
        talk = Monitor(herd / "monitor")
        talk("blockdev-add", **{"driver": "qcow2", "node-name": "hot", "file": {"driver": "file", "filename": str(herd / "b")}})
        talk("device_add", driver="virtio-blk-pci", id="guest", drive="hot")
        talk.close()
        seen = look(herd)
    drives = {os.path.basename(disk.opened[0].name): [device.name for device in disk.devices] for disk in seen.all[0].disks}
    assert drives == {"a": ["virtio0"], "b": ["/machine/peripheral/guest/virtio-backend"]}
    assert faults_of(seen) == []


def test_a_mirror_under_way_has_its_progress_and_waits_for_nobody(herd):
    for name in ("large", "copy"):
        qemu_img("create", "-q", "-f", "qcow2", herd / name, "64M")
    write(herd / "large", "write -P 1 0 64M")
    with machine(herd, "-blockdev", "qcow2,node-name=x,file.driver=file,file.filename=large", monitor="monitor"):
        talk = Monitor(herd / "monitor")
        talk("blockdev-add", **{"driver": "qcow2", "node-name": "y", "file": {"driver": "file", "filename": str(herd / "copy")}})
        talk("blockdev-mirror", **{"job-id": "job", "device": "x", "target": "y", "sync": "full", "speed": 1})
        talk.close()
        seen = look(herd)
    (job,) = seen.all[0].jobs
    assert (job.id, job.type, job.status, job.waits) == ("job", "mirror", "running", False)
    assert 0 <= job.done < job.total
    assert faults_of(seen) == []


def test_what_is_left_over_from_work_of_ours_is_told_unless_a_merge_is_at_work(herd):
    ours = {"driver": "qcow2", "node-name": "cowherd-node", "file": {"driver": "file", "filename": str(herd / "b")}}
    address = {"type": "unix", "data": {"path": os.fspath(herd / "nbd")}}
    with machine(herd, "-drive", "file=a,if=virtio", monitor="monitor"):
        talk = Monitor(herd / "monitor")
        talk("blockdev-add", **ours)
        talk("nbd-server-start", addr=address)
        talk("block-export-add", **{"id": "cowherd-export", "type": "nbd", "node-name": "cowherd-node"})
        talk.close()
        seen = look(herd)
    found = faults_of(seen)
    assert kinds(found) == [Fault.LEFTOVER] * 2
    assert [word for one in found for word in one.detail.split() if word.startswith("cowherd-")] == [
        "cowherd-node",
        "cowherd-export",
    ]
    assert faults_of(seen, merging={key_of(os.stat(herd / "a"))}) == []


def test_a_monitor_that_serves_another_client_is_no_fault(herd, monkeypatch):
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.6)
    with machine(herd, "-drive", "file=a,if=virtio", monitor="monitor"), client_of(herd / "monitor"):
        seen = look(herd)
    (one,) = seen.all
    assert isinstance(one.monitor_error, qmp.MonitorBusy)
    assert [named(disk.opened) for disk in one.disks] == [["a", "base"]]
    assert faults_of(seen) == []


def test_a_machine_whose_second_monitor_is_free_is_asked_there(herd, monkeypatch):
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.6)
    second = ("-qmp", "unix:second,server=on,wait=off")
    with machine(herd, "-drive", "file=a,if=virtio", *second, monitor="monitor"):
        talk = Monitor(herd / "monitor")
        (one,) = look(herd).all
        talk.close()
    assert (one.asked, one.monitor_error) == (True, None)


def test_a_socket_that_is_named_is_asked_but_no_domains(herd):
    config = herd / "machine.cfg"
    socket = f'backend = "socket"\npath = "{herd}/chosen"\nserver = "on"\nwait = "off"\n'
    config.write_text(f'[chardev "c"]\n{socket}[mon "m"]\nchardev = "c"\nmode = "control"\n')
    with machine(herd, "-drive", "file=a,if=virtio", "-readconfig", os.fspath(config)):
        (unasked,) = look(herd).all
        (asked,) = look_at_all({key_of(os.stat(herd / "a"))}, [herd / "chosen"]).all
    assert (unasked.asked, asked.asked) == (False, True)
    domains = herd / "libvirt" / "qemu" / "domain-1-web" / "monitor.sock"
    with pytest.raises(InvalidRequest, match="monitor of a domain"):
        look_at_all(None, [domains])


@MONITORS
def test_a_disk_whose_name_is_no_text_is_where_it_was(herd, monitor):
    """In QMP's answers such a name has other characters, and leads nowhere."""
    name = os.fsdecode(b"a\xff")
    os.rename(herd / "a", herd / name)
    with machine(herd, "-drive", f"file={name},if=virtio,format=qcow2", monitor=monitor):
        seen = look(herd)
    assert [[layer.key for layer in disk.opened] for disk in seen.all[0].disks] == [
        [key_of(os.stat(herd / image)) for image in (name, "base")]
    ]
    assert faults_of(seen) == []


@MONITORS
def test_what_a_machine_writes_to_for_the_time_being_is_no_fault(herd, monitor):
    with machine(herd, "-snapshot", "-drive", "file=a,if=virtio", monitor=monitor):
        seen = look(herd)
    assert faults_of(seen) == []
    if monitor:
        (disk,) = seen.all[0].disks
        assert named(disk.opened)[1:] == ["a", "base"]
