"""docs/cowherd-img.md is what the commands' own help says."""

from __future__ import annotations

from pathlib import Path

from cowherd.cli.img.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "cowherd-img.md"


def test_the_page_is_made_from_the_help_texts():
    assert PAGE.read_text() == reference(), "python -m cowherd.cli.img.reference > docs/cowherd-img.md makes it anew"
