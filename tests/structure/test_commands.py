"""The commands that the README names, and that people type first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def run(*command, **environment) -> subprocess.CompletedProcess[str]:
    """Runs a command in the project's folder, and not as a part of the make that runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_target():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    done = run("make")
    assert done.returncode == 0
    assert sorted(re.findall(r"^make (\w+) +\w", done.stdout, re.MULTILINE)) == sorted(targets)


def test_the_readme_names_only_targets_that_exist():
    code = re.findall(r"`[^`]+`|^ {4}.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(code)))
    assert {"demo", "test"} <= named
    assert [target for target in sorted(named) if run("make", "--dry-run", target).returncode != 0] == []


def test_a_python_too_old_gives_a_message(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run("scripts/make-venv", str(tmp_path / "venv"), PYTHON=str(old))
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_gives_a_message(tmp_path):
    bare = tmp_path / "python3"
    bare.write_text("#!/bin/sh\ncase $2 in *ensurepip*) exit 1;; *print*) echo 3.11;; esac\n")
    bare.chmod(0o755)
    done = run("scripts/make-venv", str(tmp_path / "venv"), PYTHON=str(bare))
    assert done.returncode == 1
    assert "sudo apt-get install python3-venv (or python3.11-venv)" in done.stderr
