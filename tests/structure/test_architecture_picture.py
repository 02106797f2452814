"""docs/architecture.svg is what the import contracts and the packages' docstrings say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "architecture.svg"
SCRIPT = ROOT / "scripts" / "draw-architecture"


def test_the_picture_is_what_the_script_draws():
    drawn = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True).stdout
    assert PICTURE.read_text(encoding="utf-8") == drawn, "scripts/draw-architecture > docs/architecture.svg draws it anew"


def test_the_picture_names_every_layer_and_room():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    drawn = [one["layers"] for one in contracts if one.get("containers") in (["cowherd"], ["cowherd.herd"])]
    placed = re.findall(r"\w+", " ".join(layer for layers in drawn for layer in layers))
    texts = ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text")
    named = " ".join(text.text or "" for text in texts if text.get("class") == "name").split()
    assert sorted(named) == sorted(placed)


def test_the_page_shows_the_picture():
    assert "](architecture.svg)" in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
