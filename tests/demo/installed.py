"""The project's commands as installed beside this Python, which is how the demo and the tutorial's reader run them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent


def require() -> None:
    """Skips the running test where the project is not installed; in CI, where it must be, fails it."""
    if (COMMANDS / "cowherd").exists():
        return
    reason = f"cowherd is not installed in {COMMANDS.parent}; 'make test' does that"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def blocks(page: str, language: str) -> list[str]:
    """Returns the fenced blocks of a language in a page of the documentation."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
