"""What libvirt's own files say of disks, those that a real libvirtd wrote among them."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from cowherd.live import libvirt_daemon
from cowherd.live.libvirt_records import NamedFile, Records, read_records, records_naming
from tests import qemu
from tests.live import libvirt

DISK = "<disk type='file' device='disk'><source file='{}'/>{}<target dev='{}'/></disk>"


def domain(name: str, disks: str, os_: str = "") -> str:
    return f"<domain type='kvm'><name>{name}</name><uuid>u-{name}</uuid><os>{os_}</os><devices>{disks}</devices></domain>"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Writes libvirt's files under a root directory of the test's own; this user has no daemon."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere/config")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere/run")

    def write(path: str, text: str) -> None:
        file = tmp_path / "root" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


@pytest.fixture
def read(tmp_path, host):
    return lambda: read_records(tmp_path / "root")


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


def test_where_libvirt_is_not_there_nothing_is_recorded_and_no_parser_is_loaded(tmp_path):
    assert read_records(tmp_path) == Records()
    code = f"import sys; from cowherd.live import libvirt_records as r; r.read_records({str(tmp_path)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"xml", "pathlib", "re", "dataclasses", "typing"} & set(loaded)


def test_a_domain_that_is_shut_off_names_its_disks(host, read):
    nvram = "<nvram>/n/vars.fd</nvram>"
    cdrom = "<disk type='file' device='cdrom'><source file='/i/a.iso'/><target dev='hda'/></disk>"
    host("/etc/libvirt/qemu/web.xml", domain("web", DISK.format("/i/web.qcow2", "", "vda") + cdrom, nvram))
    (found,) = read().domains
    assert (found.name, found.uuid, found.persistent, found.active) == ("web", "u-web", True, False)
    assert [(disk.target, disk.path, disk.writable) for disk in found.disks] == [
        ("vda", "/i/web.qcow2", True),
        ("hda", "/i/a.iso", False),
        ("nvram", "/n/vars.fd", True),
    ]


def test_a_volume_is_looked_up_in_its_pool(host, read):
    host("/etc/libvirt/storage/p.xml", "<pool type='dir'><name>p</name><target><path>/pool/../pool</path></target></pool>")
    host(
        "/etc/libvirt/qemu/v.xml",
        domain("v", "<disk type='volume'><source pool='p' volume='v.qcow2'/><target dev='vda'/></disk>"),
    )
    records = read()
    assert records.pools == (("p", "/pool"),)
    assert records.domains[0].paths == ("/pool/v.qcow2",)


def test_backing_files_data_files_and_the_targets_of_copies_are_named_too(host, read):
    deep = (
        "<backingStore type='file'><source file='/i/mid'><dataStore type='file'><source file='/i/data'/></dataStore></source>"
        "<backingStore type='block'><source dev='/dev/vg/base'/></backingStore></backingStore>"
        "<mirror type='file'><source file='/i/copy'/></mirror>"
    )
    host("/run/libvirt/qemu/w.xml", f"<domstatus state='running'>{domain('w', DISK.format('/i/w', deep, 'vda'))}</domstatus>")
    (found,) = read().domains
    assert (found.persistent, found.active) == (False, True)
    assert found.disks[0].running
    assert found.paths == ("/i/w", "/i/mid", "/i/data", "/dev/vg/base", "/i/copy")


def test_a_machine_that_runs_on_another_disk_than_it_is_defined_with_names_both(host, read):
    host("/etc/libvirt/qemu/w.xml", domain("w", DISK.format("/i/old", "", "vda")))
    host("/run/libvirt/qemu/w.xml", f"<domstatus>{domain('w', DISK.format('/i/new', '', 'vda'))}</domstatus>")
    (found,) = read().domains
    assert [(disk.path, disk.running) for disk in found.disks] == [("/i/new", True), ("/i/old", False)]


def test_an_autostart_link_and_networks_are_no_domains(host, read, tmp_path):
    host("/etc/libvirt/qemu/networks/default.xml", "<network><name>default</name></network>")
    host("/etc/libvirt/qemu/autostart/gone.xml", domain("gone", ""))
    assert read() == Records()


def test_a_users_own_daemon_is_read_as_well(host, read, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/u/.config")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    host("/home/u/.config/libvirt/qemu/mine.xml", domain("mine", DISK.format("/home/u/a", "", "vda")))
    host("/home/u/.config/libvirt/qemu/save/mine.save", "")
    host("/run/user/7/libvirt/qemu/run/mine.xml", f"<domstatus>{domain('mine', DISK.format('/home/u/a', '', 'vda'))}</domstatus>")
    host(
        "/run/user/7/libvirt/storage/run/p.xml",
        "<poolstate><pool><name>p</name><target><path>/p</path></target></pool></poolstate>",
    )
    records = read()
    assert [(one.name, one.session, one.active, one.persistent) for one in records.domains] == [("mine", True, True, True)]
    assert records.domains[0].managed_save.endswith("/save/mine.save")
    assert records.pools == (("p", "/p"),)


@pytest.mark.parametrize(
    "text",
    ["", "<domain", "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain/>", "<domain><name>../x</name></domain>", "<pool/>", "\0" * 99],
)
def test_what_makes_no_sense_is_named_and_the_rest_is_read(host, read, text):
    host("/etc/libvirt/qemu/bad.xml", text)
    host("/etc/libvirt/qemu/good.xml", domain("good", DISK.format("/i/g", "", "vda")))
    records = read()
    assert [one.name for one in records.domains] == ["good"]
    assert [os.path.basename(path) for path in records.unreadable] == ["bad.xml"]


def test_a_directory_that_may_not_be_read_is_named(host, tmp_path):
    qemu.require("setpriv")
    if os.geteuid():
        pytest.skip("needs root")
    host("/etc/libvirt/qemu/web.xml", domain("web", ""))
    (tmp_path / "root/etc/libvirt/qemu").chmod(0o700)
    for directory in (tmp_path, *tmp_path.parents):
        if not directory.stat().st_mode & 0o001:
            directory.chmod(0o755)
    code = f"from cowherd.live.libvirt_records import read_records; print(read_records({str(tmp_path / 'root')!r}).unreadable)"
    # The tests' Python may lie where only root may go; so the rights are dropped once it has loaded what it needs.
    dropped = f"import os; import cowherd.live.libvirt_records; os.setgid(65534); os.setuid(65534); {code}"
    done = subprocess.run([sys.executable, "-c", dropped], capture_output=True, text=True, check=True)
    assert done.stdout == f"('{tmp_path}/root/etc/libvirt/qemu',)\n"


def test_what_a_real_libvirtd_wrote_is_understood(daemon, tmp_path):
    for name in ("a", "b"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / name, "16M"], check=True)
        daemon.define(name, tmp_path / name)
        daemon.virsh("start", name)
    daemon.virsh("snapshot-create-as", "a", "before", "--disk-only", "--diskspec", f"vda,file={tmp_path}/top")
    daemon.virsh("checkpoint-create-as", "a", "monday")
    daemon.virsh("managedsave", "b")
    daemon.virsh("pool-create-as", "scratch", "dir", "--target", tmp_path)
    records = read_records(daemon.root)
    one, other = sorted(records.domains)
    assert (one.name, one.persistent, one.active, one.managed_save) == ("a", True, True, None)
    assert {(disk.target, disk.path, disk.backing, disk.running) for disk in one.disks} == {
        ("vda", f"{tmp_path}/top", (f"{tmp_path}/a",), True),
        ("vda", f"{tmp_path}/top", (f"{tmp_path}/a",), False),
    }
    assert set(one.snapshots) == {NamedFile(f"{tmp_path}/{name}", "snapshot before, vda") for name in ("top", "a")}
    assert NamedFile(f"{tmp_path}/top", "checkpoint monday, vda") in one.checkpoints
    assert (other.name, other.active, bool(other.managed_save)) == ("b", False, True)
    assert ("scratch", str(tmp_path)) in records.pools
    assert records.unreadable == ()


def test_the_daemon_itself_says_what_its_files_say(daemon, tmp_path):
    for name in ("c", "d"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / name, "16M"], check=True)
        daemon.define(name, tmp_path / name)
    daemon.virsh("start", "c")
    daemon.virsh("snapshot-create-as", "c", "before", "--disk-only", "--diskspec", f"vda,file={tmp_path}/top")
    told, records = told_by(daemon.uri, tmp_path), read_records(daemon.root)
    assert {"c", "d"} <= {one.name for one in told.domains}
    assert named(told.domains) == named(records.domains)
    assert told.pools == records.pools
    assert told.unreadable == ()


def told_by(uri: str, scratch: Path) -> Records:
    """Asks the daemon itself, with the distribution's libvirt-python, of which nothing else of the distribution's comes along."""
    place = scratch / "bindings"
    place.mkdir()
    for file in Path("/usr/lib/python3/dist-packages").glob("libvirt*.*"):
        (place / file.name).symlink_to(file)
    code = (
        "import pickle, sys\n"
        f"sys.path.append({str(place)!r})\n"
        "from cowherd.live import libvirt_daemon, libvirt_records\n"
        f"reader, told = libvirt_records._Reader('/'), libvirt_daemon.ask({uri!r})\n"
        "if told:\n"
        "    reader.take(told, '/state')\n"
        "    sys.stdout.buffer.write(pickle.dumps((reader.domains, reader.pools, reader.unreadable)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
    if not said:
        assert not list(place.iterdir()), "the daemon did not answer"
        pytest.skip("python3-libvirt is not installed")
    return Records(*map(tuple, pickle.loads(said)))


def named(domains) -> set[object]:
    """What domains name, in an order of its own, without where their saved memory lies."""
    return {
        (one.name, one.uuid, one.persistent, one.active, bool(one.managed_save), frozenset(one.disks), frozenset(one.snapshots))
        for one in domains
    }


@pytest.fixture
def kept_from_us(monkeypatch, tmp_path):
    """The directories of the system's libvirt can't be read, and the library is one of the test's own."""

    def listing(directory, real=os.listdir):
        if str(directory).startswith(("/etc/libvirt", "/run/libvirt")):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(directory)

    monkeypatch.setattr(os, "listdir", listing)
    monkeypatch.setattr(os.path, "isdir", lambda path, real=os.path.isdir: str(path).startswith("/etc/libvirt") or real(path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere/config")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere/run")
    library = types.ModuleType("libvirt")
    library.libvirtError = type("libvirtError", (Exception,), {})
    library.registerErrorHandler = lambda *_: None
    library.VIR_DOMAIN_XML_INACTIVE = 2
    monkeypatch.setitem(sys.modules, "libvirt", library)
    return library


def test_of_files_that_may_not_be_read_the_daemon_is_asked(kept_from_us):
    shut_off = types.SimpleNamespace(
        name=lambda: "web",
        UUIDString=lambda: "u-web",
        isPersistent=lambda: 1,
        isActive=lambda: 0,
        XMLDesc=lambda flags: domain("web", DISK.format("/i/web", "", "vda")),
        hasManagedSaveImage=lambda flags: 1,
        listAllSnapshots=lambda flags: [],
        listAllCheckpoints=lambda flags: [],
    )
    kept_from_us.openReadOnly = lambda uri: types.SimpleNamespace(
        listAllDomains=lambda flags: [shut_off], listAllStoragePools=lambda flags: [], close=lambda: None
    )
    for records in (read_records("/"), records_naming(lambda path: path == "/i/web", "/")):
        (one,) = records.domains
        assert (one.name, one.active, one.paths, bool(one.managed_save)) == ("web", False, ("/i/web",), True)
        assert records.unreadable == ()


def test_a_daemon_that_does_not_answer_leaves_the_files_unread(kept_from_us, monkeypatch):
    def refusing(uri):
        raise kept_from_us.libvirtError("no")

    kept_from_us.openReadOnly = refusing
    assert "/etc/libvirt/qemu" in read_records("/").unreadable
    over = threading.Event()
    kept_from_us.openReadOnly = lambda uri: over.wait(60) and refusing(uri)
    monkeypatch.setattr(libvirt_daemon, "LONGEST_SECONDS", 0.1)
    assert "/etc/libvirt/qemu" in read_records("/").unreadable
    over.set()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("etc/libvirt/qemu/a.xml", domain("a", DISK.format("/i/wanted", "", "vda"))),
        (
            "etc/libvirt/qemu/a.xml",
            domain("a", DISK.format("/i/x", "<backingStore><source dev='/i/wanted'/></backingStore>", "vda")),
        ),
        ("etc/libvirt/qemu/a.xml", domain("a", "", "<nvram template='/t'> /i/wanted </nvram>")),
        ("etc/libvirt/qemu/a.xml", domain("a", '<disk type="block"><source dev="/i/wanted"/><target dev="vda"/></disk>')),
        ("run/libvirt/qemu/a.xml", f"<domstatus>{domain('a', DISK.format('/i/wanted', '', 'vda'))}</domstatus>"),
        ("var/lib/libvirt/qemu/snapshot/a/s.xml", "<domainsnapshot><name>s</name><memory file='/i/wanted'/></domainsnapshot>"),
        (
            "var/lib/libvirt/qemu/checkpoint/a/c.xml",
            f"<domaincheckpoint><name>c</name>{domain('a', DISK.format('/i/wanted', '', 'vda'))}</domaincheckpoint>",
        ),
    ],
)
def test_only_domains_that_name_a_file_are_read_whole(host, tmp_path, file, text):
    host("/etc/libvirt/qemu/a.xml", domain("a", ""))
    host("/etc/libvirt/qemu/b.xml", domain("b", DISK.format("/i/other", "", "vda")))
    host(file, text)
    found = records_naming(lambda path: path == "/i/wanted", tmp_path / "root")
    assert [one.name for one in found.domains] == ["a"]
    assert "/i/wanted" in found.domains[0].paths
    assert records_naming(lambda path: False, tmp_path / "root").domains == ()


def test_names_with_special_characters_and_volumes_are_found(host, tmp_path):
    host("/etc/libvirt/storage/p.xml", "<pool type='dir'><name>p</name><target><path>/pool</path></target></pool>")
    host("/etc/libvirt/qemu/a.xml", domain("a", DISK.format("/i/&lt;a&amp;b&apos;s&gt;", "", "vda")))
    host("/etc/libvirt/qemu/v.xml", domain("v", "<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>"))
    for wanted, name in (("/i/<a&b's>", "a"), ("/pool/v", "v")):
        found = records_naming(lambda path, wanted=wanted: path == wanted, tmp_path / "root")
        assert name in [one.name for one in found.domains if wanted in one.paths]
