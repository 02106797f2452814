"""The pins: exact versions with hashes, from nowhere in particular, and in step with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def entries(file: Path) -> list[str]:
    """The requirements of a file, each with its continuation lines joined and without comments."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [entry for entry in "\n".join(lines).replace("\\\n", " ").splitlines() if entry.strip()]


def pins(file: Path) -> dict[str, str]:
    """Package name to pinned version."""
    requirements = [Requirement(entry.split(" --hash")[0]) for entry in entries(file)]
    return {canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==") for requirement in requirements}


def test_there_are_pins_for_running_developing_building_the_browser_fuzzing_and_openstack():
    assert [file.stem for file in FILES] == ["browser", "build", "dev", "fuzz", "openstack", "run"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_requirement_is_one_version_with_hashes(file):
    pinned = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.]* +(; [^-]+? +)?(--hash=sha256:[0-9a-f]{64} *)+")
    assert [entry for entry in entries(file) if not pinned.fullmatch(entry)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_pin_says_where_to_download_from(file):
    assert re.search(r"://|--(extra-)?index|--find-links|^-[if]\b", file.read_text(), re.MULTILINE) is None


@pytest.mark.parametrize(
    ("stem", "wanted"),
    [
        ("run", PROJECT["project"]["dependencies"]),
        ("dev", PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]),
        ("build", PROJECT["build-system"]["requires"]),
        ("browser", PROJECT["project"]["optional-dependencies"]["browser"]),
        ("fuzz", PROJECT["project"]["optional-dependencies"]["fuzz"]),
        ("openstack", PROJECT["dependency-groups"]["openstack"]),
    ],
)
def test_the_pins_satisfy_what_the_project_asks_for(stem, wanted):
    pinned = pins(ROOT / "requirements" / f"{stem}.txt")
    asked = [Requirement(line) for line in wanted]
    unmet = [str(one) for one in asked if not one.specifier.contains(pinned.get(canonicalize_name(one.name), "0"))]
    assert unmet == []


def test_a_package_has_the_same_version_in_every_file():
    versions: dict[str, set[str]] = {}
    for file in FILES:
        for name, version in pins(file).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
