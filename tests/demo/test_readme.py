"""What the README tells its reader to type works, in both languages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.demo import installed

READMES = ("README.md", "README.zh-CN.md")
FIRST_SCREEN = 32


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{installed.COMMANDS}:{os.environ['PATH']}"} | environment
    return subprocess.run(["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def head(page: str) -> str:
    """What a page says before its first chapter."""
    return (installed.ROOT / page).read_text(encoding="utf-8").split("\n## ")[0]


@pytest.mark.parametrize("page", READMES)
def test_the_commands_at_the_top_work_on_an_image_of_the_readers(page, tmp_path):
    installed.require()
    assert run("cowherd-img create -f qcow2 debian.qcow2 1G", tmp_path).returncode == 0
    [block] = installed.blocks(page, "sh")
    commands = block.splitlines()
    assert len(commands) == 5
    for command in commands:
        done = run(command, tmp_path)
        assert (command, done.returncode, done.stderr) == (command, 0, "")
    assert (tmp_path / "web.qcow2").exists()


@pytest.mark.parametrize("page", READMES)
def test_all_that_a_newcomer_needs_stands_on_the_first_screen(page):
    top = head(page)
    assert len(top.splitlines()) <= FIRST_SCREEN
    for what in ("docs/lineage.svg", "pipx install .", "cowherd clone", "make demo", "make test"):
        assert what in top


@pytest.mark.parametrize("page", READMES)
def test_the_makes_that_a_page_names_exist(page):
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`[^`]+`|^ {4}.*$", head(page), re.MULTILINE))))
    assert named == {"demo", "test"}
    for target in sorted(named):
        assert run(f"make --dry-run {target}", installed.ROOT, MAKEFLAGS="").returncode == 0


def ways() -> dict[str, str]:
    """How the README says cowherd is installed: a command for each way."""
    rows = re.findall(
        r"^\| (?:\[(\w+)\]\(.*?\)|(\w[\w ]*)) \| (`.*) \|$", (installed.ROOT / "README.md").read_text(), re.MULTILINE
    )
    return {linked or plain: " && ".join(re.findall(r"`([^`]+)`", cell)) for linked, plain, cell in rows}


PROGRAMS = {"pipx": "pipx", "uv": "uv", "pip": "python3", "a wheel file": "pipx"}
OFFLINE = {  # pip takes what it needs from here; the other installers make environments that can't see it, and fetch it
    "PIP_NO_INDEX": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of build-isolation
    "PYTHONPATH": sysconfig.get_path("purelib"),
}


@pytest.fixture
def clone(tmp_path):
    """A copy of the tree in which a reader has only typed what the README says."""
    return shutil.copytree(installed.ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(".*", "dist", "__pycache__"))


@pytest.mark.slow
@pytest.mark.parametrize("way", PROGRAMS)
def test_it_is_installed_as_the_readme_says(way, tmp_path, clone):
    if not shutil.which(PROGRAMS[way]):
        pytest.skip(f"{PROGRAMS[way]} is not installed")
    home = tmp_path / "home"
    command = ways()[way].replace("/opt/cowherd", f"{home}/pip").replace("python3 -m venv", f"{sys.executable} -m venv")
    places = {
        "PIPX_HOME": home / "pipx",
        "UV_TOOL_DIR": home / "uv",
        "PIPX_BIN_DIR": home / "bin",
        "UV_TOOL_BIN_DIR": home / "bin",
    }
    environment = {name: str(place) for name, place in places.items()} | (OFFLINE if way == "pip" else {})
    done = run(command, clone, **environment)
    assert done.returncode == 0, done.stderr
    program = home / ("pip" if way == "pip" else "") / "bin/cowherd"
    told = run(f"{program} --version", tmp_path, **(OFFLINE if way == "pip" else {}))
    assert told.stdout.startswith("cowherd "), told.stderr


DEBIANS_PYTHON = "/usr/bin/python3"


def debian_reason() -> str:
    """Why this host can't build and try the Debian package; "" if it can."""
    if not (shutil.which("dpkg-deb") and shutil.which("apt-get") and os.access(DEBIANS_PYTHON, os.X_OK)):
        return "no Debian"
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    recent = (
        subprocess.run([DEBIANS_PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode == 0
    )
    return "" if architecture == "amd64" and recent else f"{architecture}, or Debian's Python is too old"


@pytest.mark.slow
@pytest.mark.skipif(bool(reason := debian_reason()), reason=reason)
def test_a_debian_package_is_built_and_can_be_installed_as_the_readme_says(tmp_path, clone):
    """Nothing is installed: apt says whether it would be, and the programs are tried as the package has them."""
    command = ways()["a Debian package"]
    assert " && apt install ./dist/" in command
    command = command.replace(".venv/bin/python", sys.executable).replace("apt install", "apt-get --simulate install")
    done = run(command, clone)
    assert done.returncode == 0, done.stderr
    assert "Inst cowherd " in done.stdout
    [package] = (clone / "dist").glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "root"], check=True)
    told = run(f"{DEBIANS_PYTHON} -IB {tmp_path}/root/usr/bin/cowherd --version", tmp_path)
    assert told.stdout.startswith("cowherd "), told.stderr
