"""Chinese locales, whatever this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ENCODINGS = {"zh_CN.UTF-8": "utf-8", "zh_CN.GBK": "gbk"}
"""The encoding of each locale."""


def make_chinese(folder: Path) -> str:
    """Makes the locales in a folder, and returns it as a value for LOCPATH. Skips the running test where that is impossible."""
    if not shutil.which("localedef") or not os.path.exists("/usr/share/i18n/locales/zh_CN"):
        pytest.skip("no Chinese locale can be made here")
    for name in ENCODINGS:
        command = ["localedef", "-c", "-i", "zh_CN", "-f", name.partition(".")[2], folder / name]
        subprocess.run(command, check=False, capture_output=True)  # it warns of characters that an encoding lacks
        assert (folder / name).is_dir()
    return os.fspath(folder)
