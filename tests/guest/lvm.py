"""LVM2's own tools as ground truth. They write metadata without the kernel's device-mapper, and say where each extent lies."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.guest.truth import require
from tests.storage.hosts import loop_device

_CONFIG = (
    'devices {{ use_devicesfile=0 filter=[{accepted}, "r|.*|"] }} backup {{ backup=0 archive=0 }} '
    "activation {{ udev_sync=0 udev_rules=0 monitoring=0 }} global {{ use_lvmpolld=0 }}"
)


class Lvm:
    """LVM on some block devices, and on nothing else of this machine."""

    def __init__(self, devices: dict[Path, int]):
        """`devices` maps each to the byte of the disk that it begins at."""
        self.devices = [str(device) for device in devices]
        self._starts = {str(device): start for device, start in devices.items()}
        self._config = _CONFIG.format(accepted=", ".join(f'"a|^{device}$|"' for device in self.devices))

    def __call__(self, command: str, *words: str | Path) -> str:
        line = [command, "--driverloaded", "n", "--config", self._config, *map(str, words)]
        quiet = {**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1", "DM_DISABLE_UDEV": "1", "LC_ALL": "C"}
        done = subprocess.run(line, capture_output=True, text=True, env=quiet, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, name: str, *words: str, group: str = "vg") -> None:
        """Makes a logical volume that is not active."""
        self("lvcreate", "-an", "-Zn", "-Wn", "-y", "-n", name, *words, group)

    def extents_at(self, device: str) -> int:
        """Returns the byte of the disk that a physical volume's extents begin at."""
        start = self("pvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start", device)
        return self._starts[device] + int(start)

    def segments(self, name: str, group: str = "vg") -> list[tuple[int, int]]:
        """Returns (byte of the disk, length) of each segment of a linear volume, as LVM tells them."""
        report = self("lvs", "--segments", "--units", "b", "--nosuffix", "--reportformat", "json", "-o",
                      "devices,seg_start,seg_size,vg_extent_size", f"{group}/{name}")  # fmt: skip
        found = []
        for row in json.loads(report)["report"][0]["seg"]:
            device, first = row["devices"].rstrip(")").split("(")
            found.append((self.extents_at(device) + int(first) * int(row["vg_extent_size"]), int(row["seg_size"])))
        return found


@contextlib.contextmanager
def lvm_on(raw: Path, *parts: tuple[int, int]) -> Iterator[Lvm]:
    """Gives LVM on a raw file, or on (start, length) parts of it; skips where LVM or loop devices can't be had."""
    require("lvm")
    with contextlib.ExitStack() as stack:
        devices = {}
        for start, length in parts or [(0, raw.stat().st_size)]:
            options = ("--offset", str(start), "--sizelimit", str(length))
            devices[stack.enter_context(loop_device(raw, *options))] = start
        yield Lvm(devices)
