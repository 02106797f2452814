"""What the pages under docs/ and the READMEs name is there: pages, their sections, and the files of the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDE = ROOT / "docs" / "where-to-change.md"
LEADING = [ROOT / "docs" / "architecture.md", GUIDE]
_NOT_IN_A_NAME = re.compile(r"[^\w\- ]")


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """A page without its examples, in which a line may begin with #."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """By which names the sections of a page are reached, as GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {_NOT_IN_A_NAME.sub("", heading.lower()).replace(" ", "-") for heading in headings}


def named_files(text: str) -> list[str]:
    """The files and folders of the project that are named as code."""
    return re.findall(r"`((?:src|tests|docs|bench|scripts|packaging|demo)/[\w./-]*|\w+\.(?:md|toml))[^`]*`", text)


def entries() -> dict[str, str]:
    """The entries of the guide by their headings."""
    parts = re.split(r"^## (.+)$", text_of(GUIDE), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_a_page_links_to_what_is_there(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        name, _, section = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (section and section not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", LEADING, ids=page_name)
def test_every_file_that_a_leading_page_names_is_there(page):
    named = named_files(text_of(page))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_list_at_the_top_of_the_guide_leads_to_every_entry():
    top = text_of(GUIDE).split("\n## ")[0]
    assert set(re.findall(r"\]\(#([^)]+)\)", top)) == anchors(GUIDE) - {"where-do-i-change-"}


@pytest.mark.parametrize("entry", sorted(entries()))
def test_an_entry_of_the_guide_names_sources_and_tests(entry):
    steps, found, tests = entries()[entry].partition("\nTests: ")
    assert found
    assert steps.startswith("\n\n1. ")
    assert named_files(steps)
    assert any(name.startswith("tests/") for name in named_files(tests))
