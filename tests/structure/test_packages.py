"""What is handed out: wheels, the source archive and the Debian package are whole, and run from where they are installed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import cowherd
from cowherd import distribution
from cowherd.cli.guard.main import COMMANDS as GUARD
from cowherd.cli.img.main import COMMANDS as IMG
from cowherd.live.libvirt_hook import is_ours, place

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGING = ROOT / "packaging"


def build(target: str, tree: Path, directory: Path) -> Path:
    words = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(directory)]
    subprocess.run(words, cwd=tree, check=True, capture_output=True, timeout=120)
    (made,) = directory.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """A wheel that was made of the source archive, as installers make one."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    return build("wheel", next(unpacked.iterdir()), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A directory in which the wheel is installed, without its libraries."""
    target = tmp_path_factory.mktemp("installed")
    words = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True, timeout=120)
    return target


def run(installed: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(installed / "bin" / program), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=60, check=False)


def members(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel but its record, whose order is that of the directory it was made of."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_the_wheel_of_the_source_archive_is_that_of_the_tree(wheel, tmp_path):
    assert members(wheel) == members(build("wheel", ROOT, tmp_path / "wheel"))


def test_a_wheel_holds_all_that_lies_beside_the_modules(wheel):
    found = members(wheel)
    tracked = [file for file in (ROOT / "src").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert {str(file.relative_to(ROOT / "src")) for file in tracked} <= set(found)
    assert not [name for name in found if name.endswith(".pyc")]


@pytest.mark.parametrize("command", GUARD)
def test_each_command_of_the_guard_runs_from_a_wheel(installed, command):
    done = run(installed, "cowherd", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: cowherd {command} ")


@pytest.mark.parametrize("command", IMG)
def test_each_command_of_the_engine_runs_from_a_wheel(installed, command):
    done = run(installed, "cowherd-img", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"cowherd-img {command} " in done.stdout


def test_units_are_installed_from_a_wheel(installed, tmp_path):
    done = run(installed, "cowherd", "watch", "--install-units", "--unit-dir", str(tmp_path), "/srv/images")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "cowherd-verify.service",
        "cowherd-verify.timer",
        "cowherd-watch.service",
    ]
    assert str(installed / "bin" / "cowherd") in (tmp_path / "cowherd-watch.service").read_text()


def test_the_version_is_that_of_the_metadata(installed):
    assert run(installed, "cowherd", "--version").stdout == f"cowherd {PROJECT['version']}\n"


def test_the_programs_package_and_metadata_have_one_name():
    assert PROJECT["name"] == distribution.NAME == cowherd._PROJECT
    assert PROJECT["name"] in (PACKAGING / "bin" / "cowherd").read_text()


def test_a_hint_names_the_distribution_that_has_this_package(installed, tmp_path):
    renamed = shutil.copytree(installed, tmp_path / "renamed")
    (metadata,) = renamed.glob("qemu_cowherd-*.dist-info")
    file = metadata / "METADATA"
    file.write_text(file.read_text().replace("Name: qemu-cowherd", "Name: cowherd-of-our-own"))
    metadata.rename(renamed / "cowherd_of_our_own-1.dist-info")
    code = f"import sys; sys.path[:] = [{str(renamed)!r}, *(p for p in sys.path if 'packages' not in p)]\n"
    code += "from cowherd.distribution import how_to_install; print(how_to_install('watch'))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "pip install 'cowherd-of-our-own[watch]'\n"


@pytest.mark.parametrize("over", ["whole", "__init__.py"])
@pytest.mark.parametrize("program", ["cowherd", "cowherd-img"])
def test_the_program_of_another_package_of_that_name_is_not_run(installed, tmp_path, program, over):
    """`pip install cowherd` brings another project's package of that name, and puts it over ours."""
    mixed = shutil.copytree(installed, tmp_path / "mixed")
    if over == "whole":
        shutil.rmtree(mixed / "cowherd")
        (mixed / "cowherd").mkdir()
    (mixed / "cowherd" / "__init__.py").write_text('"""Learns to herd cows."""\n')
    done = run(mixed, program, "--version")
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        rf"{program}: the Python package cowherd is not the one that .* \({re.escape(str(mixed))}/cowherd/__init__.py\)\. .*"
        r"--force-reinstall qemu-cowherd\)\n",
        done.stderr,
    )


def test_the_name_is_free_for_each_extra_that_a_page_names():
    text = "\n".join(file.read_text() for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    named = re.findall(r"install '?([\w-]+)\[(\w+)\]", text)
    assert named
    assert {name for name, _ in named} == {PROJECT["name"]}
    assert {extra for _, extra in named} <= set(PROJECT["optional-dependencies"])


def test_no_text_of_the_program_tells_anybody_to_install_another_package():
    told = {path: re.findall(r"(?<![\w-])cowherd\[\w+\]", path.read_text()) for path in (ROOT / "src").rglob("*.py")}
    assert {path: names for path, names in told.items() if names} == {}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of argparse lay usage out otherwise")
def test_man_pages_and_completion_are_what_the_parsers_say(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts/write-manuals", tmp_path], check=True, timeout=60)
    for folder in ("man", "completion"):
        written = {str(file.relative_to(tmp_path)): file.read_text() for file in (tmp_path / folder).rglob("*") if file.is_file()}
        kept = {str(file.relative_to(PACKAGING)): file.read_text() for file in (PACKAGING / folder).rglob("*") if file.is_file()}
        assert kept == written, "scripts/write-manuals writes them anew"


def test_every_command_has_a_man_page_and_is_completed():
    for program, commands in (("cowherd", GUARD), ("cowherd-img", IMG)):
        completions = [
            (PACKAGING / f"completion/{place}").read_text()
            for place in (f"bash/{program}", f"zsh/_{program}", f"fish/{program}.fish")
        ]
        for command in commands:
            assert (PACKAGING / "man" / f"{program}-{command}.1").exists()
            assert all(re.search(rf"\b{command}\b", text) for text in completions)


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_man_reads_the_pages_without_a_warning():
    for page in sorted((PACKAGING / "man").iterdir()):
        done = subprocess.run(
            ["man", "--warnings=w", "-l", "-Tutf8", page], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr == "", page.name


def test_bash_completes_commands_options_and_values(tmp_path):
    def completed(*words: str) -> list[str]:
        line = " ".join(words)
        script = f"""source {PACKAGING}/completion/bash/cowherd
            COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
            COMP_LINE='{line}'; COMP_POINT={len(line)}
            _shtab_cowherd; printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
        return sorted(done.stdout.split())

    assert completed("cowherd", "re") == ["recover", "rename", "repair", "report", "retarget"]
    assert completed("cowherd", "seal", "--lev") == ["--level"]
    assert completed("cowherd", "seal", "--level", "im") == ["immutable"]
    (tmp_path / "web.qcow2").touch()
    assert completed("cowherd", "verify", "we") == ["web.qcow2"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="dpkg installs as root only")
def test_a_debian_package_is_built_installed_and_removed(wheel, tmp_path):
    python = ".".join(map(str, sys.version_info[:2]))
    words = [PACKAGING / "debian/build", "--python", python, "--wheel", wheel, tmp_path]
    built = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, timeout=300).stdout.strip()
    root = tmp_path / "root"
    for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/libvirt"):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()

    def dpkg(*words: str) -> None:
        options = [f"--root={root}", "--force-script-chrootless", "--force-depends", f"--log={tmp_path}/log"]
        subprocess.run(["dpkg", *options, *words], check=True, capture_output=True, timeout=300)

    dpkg("--install", built)
    program = [sys.executable, "-IB", root / "usr/bin/cowherd"]
    told = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told == f"cowherd {PROJECT['version']}\n"
    image = tmp_path / "base.raw"
    image.write_bytes(b"a" * 65536)
    for command in ("seal", "verify"):
        told = subprocess.run([*program, command, image], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.startswith("ok")
    for name in ("usr/lib/systemd/system/cowherd-watch.service", "usr/share/man/man1/cowherd-seal.1.gz",
                 "usr/share/bash-completion/completions/cowherd", "usr/share/zsh/vendor-completions/_cowherd-img"):  # fmt: skip
        assert (root / name).is_file()
    assert "ExecStart=/usr/bin/cowherd watch" in (root / "usr/lib/systemd/system/cowherd-watch.service").read_text()
    hook = place(root, None)
    assert is_ours(hook)

    dpkg("--remove", "cowherd")
    assert not hook.exists()
    assert [file for file in (root / "usr").rglob("*") if file.is_file()] == []


def test_this_environment_has_the_project_under_its_name():
    assert importlib.metadata.version(PROJECT["name"]) == PROJECT["version"]
