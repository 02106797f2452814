"""Images with internal snapshots, made and read by QEMU: random chains, saved machines, and what each snapshot shows."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests import qemu
from tests.qmp import waiting_machine

KIB, MIB = 1 << 10, 1 << 20
UNIT = 32 * KIB

OPTIONS = (
    "compat=0.10",
    "compat=1.1",
    "compat=1.1,cluster_size=4k",
    "compat=1.1,cluster_size=512k",
    "compat=1.1,cluster_size=64k,extended_l2=on",
    "compat=0.10,cluster_size=8k",
)

qemu_img, qemu_io = qemu.Tool("qemu-img"), qemu.Tool("qemu-io")


def names_of(image: Path) -> list[str]:
    """The names of the snapshots of an image, in its table's order."""
    return [one["name"] for one in json.loads(qemu_img("info", "-U", "--output=json", image)).get("snapshots", [])]


def shown(image: Path, name: str) -> bytes:
    """What QEMU reads of an image once its snapshot `name` is applied (to a copy, beside the image)."""
    copy, raw = image.with_name(f".applied-{image.name}"), image.with_name(f".shown-{image.name}")
    shutil.copy(image, copy)
    qemu_img("snapshot", "-a", name, copy)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", copy, raw)
    data = raw.read_bytes()
    copy.unlink()
    raw.unlink()
    return data


def shown_unapplied(image: Path, name: str) -> bytes:
    """What `qemu-img convert -l` reads: the snapshot's tables, as far as the disk reaches now."""
    raw = image.with_name(f".shown-{image.name}")
    qemu_img("convert", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "raw", image, raw)
    data = raw.read_bytes()
    raw.unlink()
    return data


def all_shown(image: Path) -> dict[str, bytes]:
    """What each snapshot of an image shows, by its name."""
    return {name: shown(image, name) for name in names_of(image)}


def save_machine(image: Path, name: str) -> None:
    """Makes a snapshot with the memory of a machine that runs on the image."""
    node = f"driver=qcow2,node-name=disk,file.driver=file,file.filename={image}"
    with waiting_machine(["-blockdev", node, "-device", "virtio-blk,drive=disk"], image.parent) as monitor:
        printed = monitor("human-monitor-command", **{"command-line": f"savevm {name}"})
    assert not printed, printed


@dataclass
class Chance:
    """Makes random chains: few patterns in whole units, so that what differs and what does not both come up often."""

    random: random.Random

    def chain(self, directory: Path, names: str) -> list[Path]:
        """Makes images named by the letters of `names`, each standing on the one before; all but the first have snapshots."""
        images: list[Path] = []
        for name in names:
            image = directory / f"{name}.qcow2"
            below = ["-b", images[-1].name, "-F", "qcow2"] if images else []
            size = self.random.choice([1, 1, 1, 2]) * MIB - self.random.choice([0, 0, 512 * 7])
            grows = images and name != names[-1]  # by a commit, which a version 2 image with snapshots can't
            options = self.random.choice([one for one in OPTIONS if not grows or "1.1" in one])
            qemu_img("create", "-q", "-f", "qcow2", *below, "-o", options, image, size)
            self.write(image, 12 if not images else 3)
            images.append(image)
        for image in images[1:]:
            self.snapshots(image)
        return images

    def snapshots(self, image: Path) -> None:
        """Takes snapshots of an image, and writes to it, and resizes it, between them."""
        for number in range(self.random.choice([1, 2, 3])):
            qemu_img("snapshot", "-c", f"s{number}", image)
            self.write(image, self.random.choice([0, 2, 6]))
            if self.random.random() < 0.4 and self.is_version_3(image):
                qemu_img("resize", "-q", "--shrink", image, self.random.choice([MIB // 2, MIB, 2 * MIB, 3 * MIB]))

    def write(self, image: Path, times: int, patterns: int = 3) -> None:
        """Writes a few units of few patterns, and zeros."""
        size = self.size(image)
        commands: list[str] = []
        for _ in range(times):
            start = self.random.randrange(size // UNIT) * UNIT
            length = min(self.random.choice([1, 2, 4, 10]) * UNIT, size - start)
            kind = self.random.choice([f"-P {self.random.randrange(1, patterns)}", f"-P {self.random.randrange(patterns)}", "-z"])
            commands += ["-c", f"write {kind} {start} {length}"]
        if commands:
            qemu_io("-f", "qcow2", *commands, image)

    @staticmethod
    def size(image: Path) -> int:
        """The virtual size."""
        return int(json.loads(qemu_img("info", "--output=json", image))["virtual-size"])

    @staticmethod
    def is_version_3(image: Path) -> bool:
        """Whether an image with snapshots can be resized."""
        return json.loads(qemu_img("info", "--output=json", image))["format-specific"]["data"]["compat"] == "1.1"
