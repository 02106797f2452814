"""docs/service-rules.md is what the rules say."""

from __future__ import annotations

from pathlib import Path

from cowherd.service.policy.reference import reference
from cowherd.service.policy.rules import RULES

PAGE = Path(__file__).parents[3] / "docs" / "service-rules.md"


def test_the_page_is_what_the_rules_say():
    said = "python -m cowherd.service.policy.reference > docs/service-rules.md makes it anew"
    assert PAGE.read_text(encoding="utf-8") == reference(), said


def test_the_page_names_every_action():
    assert [action for action in RULES if f"`{action}`" not in reference()] == []
