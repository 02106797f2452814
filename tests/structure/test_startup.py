"""What `cowherd-img info` loads: it answers about as fast as bare Python starts, so it must not drag anything heavy along."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RUN = """
import json, sys
before = set(sys.modules)
from cowherd.cli.img.main import main
sys.argv = ["cowherd-img", *sys.argv[1:]]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
loaded = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name not in before}
json.dump({"code": code, "loaded": loaded}, sys.stderr)
"""

HEAVY_PARTS_OF_PYTHON = {"asyncio", "email", "http", "importlib.metadata", "multiprocessing", "unittest", "urllib.request"}


def run_cowherd_img(*arguments) -> tuple[str, dict[str, str]]:
    """Runs cowherd-img in a Python of its own. Returns what it printed, and the modules that it loaded with their files."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stderr)
    assert not report["code"], done.stdout
    return done.stdout, report["loaded"]


@pytest.fixture
def overlay(tmp_path):
    """A qcow2 overlay over a qcow2 base."""
    base, overlay = tmp_path / "base.qcow2", tmp_path / "overlay.qcow2"
    run_cowherd_img("create", "-q", "-f", "qcow2", base, "1M")
    run_cowherd_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
    return overlay


@pytest.mark.parametrize("options", [[], ["--output=json"], ["--backing-chain"]], ids=["text", "json", "chain"])
def test_info_loads_nothing_that_it_does_not_use(overlay, options):
    printed, loaded = run_cowherd_img("info", *options, overlay)
    assert "overlay.qcow2" in printed
    third_party = {name for name, file in loaded.items() if "-packages/" in file and not name.startswith("cowherd")}
    assert third_party == set()
    assert HEAVY_PARTS_OF_PYTHON & loaded.keys() == set()
