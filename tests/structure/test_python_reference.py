"""docs/python-reference.md tells of every public name what its docstring says, and its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cowherd

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python-reference.md"
SCRIPT = ROOT / "scripts" / "write-reference"
CHAPTERS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
BLOCKS = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in CHAPTERS.items()}
EXAMPLES = {name: blocks[-1] for name, blocks in BLOCKS.items() if blocks}


def test_the_page_is_what_the_script_writes():
    written = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True, timeout=120).stdout
    assert PAGE.read_text(encoding="utf-8") == written, "scripts/write-reference > docs/python-reference.md writes it anew"


def test_the_page_has_every_public_name():
    assert set(CHAPTERS) == set(cowherd._HOME_OF)


@pytest.mark.parametrize("name", sorted(CHAPTERS))
def test_a_name_is_shown_in_use_or_says_where_it_comes_from(name):
    assert name in EXAMPLES or re.search(r"^(Returned by|Raised by|A kind of) ", CHAPTERS[name], re.MULTILINE)


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("base", "alone"):
        cowherd.create(f"{name}.qcow2", "4M")
        with cowherd.open(f"{name}.qcow2", writable=True) as disk:
            disk.write(0, name.encode() * 65536)
    for name in ("web", "mail"):
        cowherd.clone("base.qcow2", f"{name}.qcow2")


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_runs(name, images):
    exec(compile(EXAMPLES[name], f"the example of {name}", "exec"), {"cowherd": cowherd})
