"""Recorded answers in a file: JSON with one answer a line, for diffs that can be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.openstack.recorder.play import Answer

GLANCE = Path(__file__).with_name("glance.json")


def write_records(path: Path, answers: Mapping[str, Answer]) -> None:
    """Writes answers by title."""
    lines = (f"{json.dumps(title)}: {json.dumps(answer, sort_keys=True)}" for title, answer in answers.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read_records(path: Path = GLANCE) -> dict[str, Answer]:
    """Reads answers by title."""
    return json.loads(path.read_text())
