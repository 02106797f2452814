"""docs/lineage.svg shows what happens to overlays whose base is changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "lineage.svg"
SCRIPT = ROOT / "scripts" / "draw-lineage"


def test_the_picture_is_of_what_a_run_does():
    drawn = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True, timeout=120).stdout
    assert PICTURE.read_text(encoding="utf-8") == drawn, "scripts/draw-lineage > docs/lineage.svg draws it anew"


def test_the_picture_shows_each_verdict_once():
    texts = ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text")
    assert [text.text for text in texts if text.get("class") == text.text] == ["torn", "intact", "synchronised"]


def test_the_picture_has_colours_for_a_dark_page():
    assert "@media (prefers-color-scheme: dark)" in PICTURE.read_text(encoding="utf-8")
