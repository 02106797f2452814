"""Reads configuration files as QEMU's -readconfig does: sections in brackets, each with settings."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cowherd.errors import HostFileError
from cowherd.live.machine.drive import MachineUnclear
from cowherd.live.machine.options import Options
from cowherd.text import printable

_MAX_BYTES = 1 << 20
_SECTION = re.compile(r'\[\s*([\w-]+)(?:\s+"([^"]*)")?\s*\]')
_SETTING = re.compile(r'([\w.-]+)\s*=\s*"([^"]*)"')


def sections(path: Path) -> list[tuple[str, str, Options]]:
    """Returns (the section's kind, its id or "", its settings) in their order.

    Raises `HostFileError` for a file that can't be read, `MachineUnclear` for one that QEMU could not read either.
    """
    found: list[tuple[str, str, Options]] = []
    for number, line in enumerate(_lines(path), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        section, setting = _SECTION.fullmatch(line), _SETTING.fullmatch(line)
        if section:
            found.append((section[1], section[2] or "", {}))
        elif setting is None or not found:
            raise MachineUnclear("neither a section nor a setting", f"{printable(path)}, line {number}")
        else:
            found[-1][2][setting[1]] = setting[2]
    return found


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise HostFileError(path, "read", error) from error
    if len(text) > _MAX_BYTES:
        raise MachineUnclear(f"more than {_MAX_BYTES} bytes", printable(path))
    return os.fsdecode(text).splitlines()
