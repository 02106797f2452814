"""The herd's commands over disks that a real guest's kernel wrote: every file is hashed from inside, before and after.

base <- a <- b, base <- c: the base is an ext4 disk, in which each machine makes, changes, moves and deletes files of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cowherd.herd.impact.impact import impact
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.flatten import flatten
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.overlays.retarget import retarget
from cowherd.herd.records.status import Status
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from tests.booted import linux
from tests.herd.qemu_herd import qemu_img
from tests.storage.hosts import run

MIB = 1 << 20
SIZE = 48 * MIB
OVERLAYS = ("a", "b", "c")

LIFE = """
mount -t ext4 /dev/vdb /mnt
cd /mnt
mkdir -p {name}/deep/er
for n in $(seq 1 25); do dd if=/dev/urandom of={name}/deep/file$n bs=1k count=$((n * 3)) 2>/dev/null; done
for n in $(seq {first} 7 60); do rm -f etc/file$n; done
for n in $(seq {first} 9 60); do [ ! -e etc/file$n ] || echo "{name} was here" >> etc/file$n; done
for n in $(seq {first} 11 60); do [ ! -e etc/file$n ] || mv etc/file$n {name}/deep/er/; done
ln {name}/deep/file1 {name}/hard
ln -s deep/file2 {name}/soft
dd if=/dev/zero of={name}/sparse bs=1 count=1 seek=3000000 2>/dev/null
cd /
umount /mnt
"""

CARELESS = """
mount -t ext4 /dev/vdb /mnt
for n in $(seq 1 3 60); do echo "from the base" | dd of=/mnt/etc/file$n conv=notrunc 2>/dev/null; done
rm /mnt/etc/file30
mkdir /mnt/new
umount /mnt
"""

HASHES = """
for disk in {disks}; do
    mount -t ext4 -o ro,noload /dev/$disk /mnt
    (cd /mnt && find . | sort | xargs stat -c "$disk %n %F %a %s %h")
    (cd /mnt && find . -type f | sort | xargs sha256sum | sed "s/^/$disk /") || echo "$disk can't be read"
    umount /mnt
done
dmesg | grep -i "ext4-fs error" || true
"""


class Herd:
    """Disks in a directory, and what a guest sees in them."""

    def __init__(self, machine: linux.Linux, directory: Path):
        self.machine, self.directory = machine, directory

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def seen(self, *paths: Path) -> dict[str, list[str]]:
        """What a guest says of the files on each disk: names, kinds, modes, sizes and hashes. The disks are not changed."""
        names = {f"vd{chr(ord('b') + number)}": path for number, path in enumerate(paths)}
        lines = self.machine.run(HASHES.format(disks=" ".join(names)), *paths, keep=False)
        found = {path.name: [line[4:] for line in lines if line.startswith(f"{name} ")] for name, path in names.items()}
        found["errors"] = [line for line in lines if line[:3] not in names]
        return found

    def live(self, disk: Path, name: str, first: int) -> None:
        """Lets a guest work on a disk."""
        self.machine.run(LIFE.format(name=name, first=first), disk)


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A directory that all processes have which test at the same time."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def machine(shared):
    linux.require()
    return linux.booted(shared / "linux")


@pytest.fixture(scope="session")
def original(machine, shared):
    """The herd as its guests left it, and what a guest sees in its disks."""
    directory = shared / "booted-herd"
    herd, seen = Herd(machine, directory), directory / "seen.json"
    with linux.one_at_a_time(directory):
        if not seen.exists():
            make_herd(herd)
            seen.write_text(json.dumps(herd.seen(*(herd / name for name in ("base", *OVERLAYS)))))
    return herd, json.loads(seen.read_text())


def make_herd(herd: Herd) -> None:
    """Makes the base from files of ours, and lets a guest live in each overlay."""
    files, raw = herd / "files" / "etc", herd / "raw"
    files.mkdir(parents=True)
    for number in range(1, 61):
        (files / f"file{number}").write_bytes(bytes([number]) * (number * 700))
    with raw.open("wb") as file:
        file.truncate(SIZE)
    run("mke2fs", "-q", "-t", "ext4", "-d", files.parent, raw)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, herd / "base")
    seal(herd / "base")
    for number, (name, under) in enumerate((("a", "base"), ("b", "a"), ("c", "base")), start=1):
        clone(herd / under, herd / name, seal_base=False)
        herd.live(herd / name, name, number)


@pytest.fixture
def herd(original, tmp_path):
    """A copy of it, to work on."""
    directory = tmp_path / "herd"
    directory.mkdir()
    for name in ("base", *OVERLAYS):
        shutil.copyfile(original[0] / name, directory / name)
    seal(directory / "base")
    return Herd(original[0].machine, directory)


@pytest.fixture
def before(original):
    """What a guest saw in each disk at first."""
    return original[1]


def sound(herd: Herd) -> bool:
    return all(row.status.is_fine for row in verify(herd=[herd.directory], full=True))


def test_the_guests_wrote_disks_that_differ(before):
    assert before["errors"] == []
    assert len({tuple(before[name]) for name in ("base", *OVERLAYS)}) == 4
    assert all(len(before[name]) > 120 for name in ("base", *OVERLAYS))
    assert any("./b/deep/file3" in line for line in before["b"])


@pytest.mark.parametrize("strategy", ["preserve", "fork"])
def test_a_merge_leaves_every_file_of_the_others_and_the_base_has_the_overlay_s(herd, before, strategy):
    done = merge(herd / "a", strategy=strategy)
    merged = done.plan.fork if strategy == "fork" else herd / "base"
    after = herd.seen(merged, herd / "b", herd / "c")
    assert after == {merged.name: before["a"], "b": before["b"], "c": before["c"], "errors": []}
    assert sound(herd)


def test_a_deep_merge_with_its_machine_going_on_afterwards(herd, before):
    """The merged disk is not only read: its guest goes on writing there, in an overlay of the new base."""
    merge(herd / "b", into=herd / "base", strategy="preserve")
    clone(herd / "base", herd / "next", seal_base=False)
    herd.live(herd / "next", "later", 4)
    after = herd.seen(herd / "base", herd / "c", herd / "next")
    assert (after["base"], after["c"], after["errors"]) == (before["b"], before["c"], [])
    assert any("./later/deep/file3" in line for line in after["next"])


def test_a_move_of_the_base_leaves_every_file(herd, before):
    (herd / "elsewhere").mkdir()
    move(herd / "base", herd / "elsewhere" / "renamed")
    after = herd.seen(herd / "elsewhere" / "renamed", *(herd / name for name in OVERLAYS))
    assert after == {"renamed": before["base"], **{name: before[name] for name in OVERLAYS}, "errors": []}


def test_a_retarget_onto_an_upgraded_base_and_a_flattened_disk_leave_every_file(herd, before):
    shutil.copyfile(herd / "base", herd / "upgraded")
    herd.live(herd / "upgraded", "upgrade", 5)
    seal(herd / "upgraded")
    retarget([herd / "c"], herd / "upgraded")
    flatten(herd / "b")
    (herd / "base").unlink()
    (herd / "a").unlink()
    after = herd.seen(herd / "b", herd / "c")
    assert (after["b"], after["c"], after["errors"]) == (before["b"], before["c"], [])


@pytest.mark.parametrize("preserve", [False, True])
def test_a_guest_that_writes_to_the_base_is_noticed_and_a_repair_brings_every_file_back(herd, before, preserve):
    (herd / "backup").mkdir()
    shutil.copyfile(herd / "base", herd / "backup" / "base")
    herd.machine.run(CARELESS, herd / "base")
    statuses = {row.path.name: row.status for row in verify([herd / "b", herd / "c"], full=True)}
    assert statuses["base"] is Status.DRIFTED
    verdicts = {overlay.path.name: overlay.verdict for overlay in impact(herd / "base").overlays}
    assert {verdicts[name] for name in OVERLAYS} == {"torn"}
    changed = herd.seen(herd / "base", herd / "c")
    assert changed["c"] != before["c"], "a guest would have seen the damage"
    repair(herd / "base", preserve=preserve)
    after = herd.seen(herd / "base", *(herd / name for name in OVERLAYS))
    assert {name: after[name] for name in OVERLAYS} == {name: before[name] for name in OVERLAYS}
    assert after["base"] == (changed["base"] if preserve else before["base"])
    assert after["errors"] == []


def test_a_machine_s_disk_that_became_a_base_gives_its_clones_every_file(herd, before):
    promote(herd / "c", herd / "golden")
    clone(herd / "golden", herd / "new", seal_base=False)
    after = herd.seen(herd / "c", herd / "new")
    assert (after["c"], after["new"], after["errors"]) == (before["c"], before["c"], [])
