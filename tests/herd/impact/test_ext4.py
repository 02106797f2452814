"""Verdicts on real ext4 disks, changed by real writers: what is called torn is torn, and a repair makes it whole."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.herd.impact.impact import impact
from cowherd.herd.overlays.clone import clone
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.verify import verify
from tests.herd.qemu_herd import blocks_of, changed_blocks, content, exposed_bytes, qemu_img, write
from tests.storage.hosts import require_root, run

pytestmark = [
    pytest.mark.qemu("qemu-io"),
    pytest.mark.skipif(shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin") is None, reason="e2fsprogs is not installed"),
]

MIB = 1 << 20
SIZE = 48 * MIB


def debugfs(disk: Path, *requests: str) -> None:
    """Changes an ext4 disk as debugfs does, without root."""
    script = disk.with_name("script")
    script.write_text("\n".join(requests) + "\n")
    done = subprocess.run(["debugfs", "-w", "-f", str(script), str(disk)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def e2fsck(image: Path, scratch: Path) -> int:
    """The exit code of a forced check that repairs nothing: 0 for a clean file system, 4 for one with errors."""
    raw = scratch / "checked"
    qemu_img("convert", "-O", "raw", image, raw)
    code = subprocess.run(["e2fsck", "-fn", str(raw)], capture_output=True, check=False).returncode
    raw.unlink()
    return code


@pytest.fixture
def files(tmp_path_factory):
    """A folder with two hundred files."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(200):
        (folder / f"file{number}").write_bytes(random.Random(number).randbytes(random.Random(number).randrange(1, 60000)))
    return folder


@pytest.fixture
def base(tmp_path, files):
    raw = tmp_path / "base.raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    run("mke2fs", "-q", "-t", "ext4", "-d", files, raw)
    base = tmp_path / "herd" / "base.qcow2"
    base.parent.mkdir()
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, base)
    raw.unlink()
    return base


def rewrite(image: Path, scratch: Path, *requests: str) -> None:
    """Lets debugfs change what an image shows, and writes the changed 4 KiB blocks to the image through QEMU, as a guest does."""
    raw = scratch / "raw"
    raw.write_bytes(content(image))
    before = raw.read_bytes()
    debugfs(raw, *requests)
    after = raw.read_bytes()
    writes = []
    for start in range(0, SIZE, 4096):
        if before[start : start + 4096] != after[start : start + 4096]:
            piece = scratch / f"piece{start}"
            piece.write_bytes(after[start : start + 4096])
            writes.append(f"write -s {piece} {start} 4096")
    for first in range(0, len(writes), 500):
        write(image, *writes[first : first + 500])


def writing(files: Path, prefix: str, count: int) -> list[str]:
    return [f"write {files / f'file{number}'} {prefix}{number}" for number in range(count)]


def test_the_seed_story_with_debugfs(base, files, tmp_path):
    herd = base.parent
    many, few, none = (clone(base, herd / name).overlay for name in ("many", "few", "none"))
    rewrite(many, tmp_path, *writing(files, "many", 60), *(f"rm file{n}" for n in range(0, 200, 3)))
    rewrite(few, tmp_path, "mkdir new", *writing(files, "few", 1))
    before = {path: content(path) for path in (base, many, few, none)}
    assert {e2fsck(path, tmp_path) for path in before} == {0}

    rewrite(base, tmp_path, *writing(files, "tampered", 120), *(f"rm file{n}" for n in range(100)))
    assert {row.status.value for row in verify(herd=[herd])} == {"touched"}
    assert {row.status.value for row in verify(herd=[herd], full=True)} == {"drifted"}
    found = impact(base)
    verdicts = {hit.path.name: hit.verdict for hit in found.overlays}
    assert verdicts == {"many": "torn", "few": "torn", "none": "synchronised"}
    assert blocks_of(found.to_json()["changed"]) == changed_blocks(before[base], content(base))
    for hit in found.to_json()["overlays"]:
        shows = {n * 512 // 65536 for n, shown in enumerate(exposed_bytes(Path(hit["path"]), base, SIZE, tmp_path)) if shown}
        assert blocks_of(hit["exposed"]) == shows & blocks_of(found.to_json()["changed"])
    assert e2fsck(few, tmp_path) == 4
    assert e2fsck(none, tmp_path) == 0

    donor = tmp_path / "backup.raw"
    donor.write_bytes(before[base])
    repair(base, donors=[donor])
    assert {path: content(path) for path in before} == before
    assert {row.status.value for row in verify(herd=[herd], full=True)} == {"ok"}


def test_preserving_gives_every_overlay_its_file_system_back(base, files, tmp_path):
    herd = base.parent
    few, none = (clone(base, herd / name).overlay for name in ("few", "none"))
    rewrite(few, tmp_path, "mkdir new", *writing(files, "few", 5))
    before = {path: content(path) for path in (few, none)}
    donor = tmp_path / "backup.raw"
    donor.write_bytes(content(base))
    rewrite(base, tmp_path, *writing(files, "tampered", 120), *(f"rm file{n}" for n in range(100)))
    became = content(base)
    assert e2fsck(few, tmp_path) == 4
    repair(base, preserve=True, donors=[donor])
    assert {path: content(path) for path in before} == before
    assert content(base) == became
    assert {row.status.value for row in verify(herd=[herd], full=True)} == {"ok"}


@contextlib.contextmanager
def guest(image: Path, scratch: Path) -> Iterator[Path]:
    """Mounts what an image shows with the kernel's own ext4, through QEMU's own qcow2; skips where that is not permitted."""
    require_root()
    disk, folder = scratch / f"{image.name}.disk", scratch / f"{image.name}.mounted"
    disk.touch()
    folder.mkdir(exist_ok=True)
    command = ["qemu-storage-daemon", "--blockdev", f"driver=file,filename={image},node-name=f"]
    command += ["--blockdev", "driver=qcow2,file=f,node-name=d"]
    command += ["--export", f"fuse,id=e,node-name=d,mountpoint={disk},writable=on"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as daemon:
        try:
            wait_for(lambda: disk.stat().st_size > 0 or daemon.poll() is not None)
            if daemon.poll() is not None:
                pytest.skip(f"no FUSE export: {daemon.stderr.read().decode()}")
            mount = subprocess.run(["mount", "-o", "loop", str(disk), str(folder)], capture_output=True, text=True, check=False)
            if mount.returncode:
                pytest.skip(f"can't mount: {mount.stderr}")
            try:
                yield folder
            finally:
                run("umount", folder)
        finally:
            daemon.terminate()
            daemon.wait(timeout=30)


def wait_for(condition) -> None:
    """Waits until `condition` holds, at most ten seconds."""
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.qemu("qemu-storage-daemon")
def test_the_seed_story_with_the_kernels_ext4(base, files, tmp_path):
    herd = base.parent
    many, few, none = (clone(base, herd / name).overlay for name in ("many", "few", "none"))
    with guest(many, tmp_path) as folder:
        for number in range(60):
            shutil.copy(files / f"file{number}", folder / f"many{number}")
    with guest(few, tmp_path) as folder:
        (folder / "note").write_text("hello")
    before = {path: content(path) for path in (base, many, few, none)}
    with guest(base, tmp_path) as folder:
        for number in range(100):
            (folder / f"file{number}").unlink()
        for number in range(120):
            shutil.copy(files / f"file{number}", folder / f"tampered{number}")
    verdicts = {hit.path.name: hit.verdict for hit in impact(base).overlays}
    assert verdicts == {"many": "torn", "few": "torn", "none": "synchronised"}
    assert e2fsck(few, tmp_path) == 4
    assert e2fsck(none, tmp_path) == 0
    donor = tmp_path / "backup.raw"
    donor.write_bytes(before[base])
    repair(base, donors=[donor])
    assert {path: content(path) for path in before} == before
    assert {e2fsck(path, tmp_path) for path in before} == {0}
