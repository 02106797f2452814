"""scripts/fetch-guest, on pretended machines."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch-guest"


def fetch(target: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    """Runs the script where `programs` go before the machine's own."""
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    return subprocess.run([SCRIPT, target], env=environment, capture_output=True, text=True, check=False)


def pretend(programs: Path, **scripts: str) -> Path:
    programs.mkdir(exist_ok=True)
    for name, script in scripts.items():
        path = programs / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return programs


UNPACK = """mkdir -p "$3/boot" "$3/bin" "$3/lib/modules/6/kernel"
case $2 in
    *linux*) echo kernel > "$3/boot/vmlinuz-6"; echo module > "$3/lib/modules/6/kernel/virtio_blk.ko.xz" ;;
    *) echo program > "$3/bin/busybox" ;;
esac"""
KNOWN = 'echo "linux-image-cloud-amd64"; echo "  Depends: linux-image-6-cloud-amd64"'


def test_what_is_there_is_left_as_it_is(tmp_path):
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "complete").touch()
    done = fetch(tmp_path / "guest", pretend(tmp_path / "bin", apt_get="exit 99"))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_newest_kernel_is_unpacked_and_nothing_is_installed(tmp_path):
    log = tmp_path / "log"
    get = f'echo "$*" >> {log}; touch linux.deb busybox.deb'
    programs = pretend(tmp_path / "bin", apt_get=get, apt_cache=KNOWN, dpkg_deb=UNPACK, id="echo 1000")
    done = fetch(tmp_path / "guest", programs)
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(tmp_path / "guest").as_posix() for path in (tmp_path / "guest").rglob("*")}
    assert found == {"vmlinuz", "busybox", "modules", "modules/virtio_blk.ko.xz", "complete"}
    assert log.read_text() == "download -qq linux-image-6-cloud-amd64 busybox-static\n"


def test_a_system_that_has_no_such_kernel_gives_a_message(tmp_path):
    programs = pretend(tmp_path / "bin", apt_get=":", apt_cache=":", dpkg_deb=":", id="echo 1000")
    done = fetch(tmp_path / "guest", programs)
    assert done.returncode == 1
    assert "apt knows no package linux-image-cloud-amd64" in done.stderr
    assert not (tmp_path / "guest").exists()


def test_a_fetch_that_fails_leaves_nothing_that_looks_complete(tmp_path):
    programs = pretend(tmp_path / "bin", apt_get="exit 100", apt_cache=KNOWN, dpkg_deb=UNPACK, id="echo 1000")
    done = fetch(tmp_path / "guest", programs)
    assert done.returncode == 1
    assert "could not fetch them" in done.stderr
    assert not (tmp_path / "guest").exists()
