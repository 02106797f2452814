from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cowherd.cli.guard.main import main
from tests.hostile.corpus import seed

PAGE = Path(__file__).parents[3] / "docs" / "inspect.md"


@pytest.fixture
def image(tmp_path, monkeypatch):
    """A sound image in the current directory."""
    monkeypatch.chdir(tmp_path)
    return seed().write(tmp_path / "image.qcow2")


def with_backing(path: Path, name: bytes) -> None:
    hostile = seed()
    hostile.backing(name)
    hostile.write(path)


def test_a_sound_image_is_safe(image, capsys):
    assert main(["inspect", str(image), "--format", "qcow2"]) == 0
    assert capsys.readouterr().out.endswith("image.qcow2: safe (qcow2, policy untrusted)\n")


def test_an_unsafe_image_exits_with_4_and_names_the_check(image, capsys):
    with_backing(image, b"/etc/passwd")
    assert main(["inspect", str(image)]) == 4
    printed = capsys.readouterr().out
    assert re.search(r"^refused +backing-file +'/etc/passwd'", printed, re.MULTILINE)
    assert printed.endswith("image.qcow2: refused: backing-file (qcow2, policy untrusted)\n")


def test_names_from_the_image_are_escaped(image, capsys):
    with_backing(image, b"a\n\x1b[2J")
    main(["inspect", str(image)])
    assert "'a\\x0a\\x1b[2J'" in capsys.readouterr().out


def test_the_report_is_one_json_document(image, capsys):
    assert main(["inspect", str(image), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["safe"], document["complete"], document["format"]) == (True, True, "qcow2")
    assert document["expands_to"] == 4 << 16
    assert {"name": "version", "outcome": "ok", "detail": "3"} in document["checks"]


def test_standard_input_is_inspected_as_a_stream(image, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(image.read_bytes())))
    assert main(["inspect", "-"]) == 0
    assert "standard input: safe as far as it could be checked" in capsys.readouterr().out


def test_a_policy_can_be_chosen_and_loosened(image):
    with_backing(image, b"base")
    assert main(["inspect", str(image), "--policy", "trusted"]) == 0
    assert main(["inspect", str(image), "--allow", "backing-file"]) == 0
    assert main(["inspect", str(image), "--allow", "nonsense"]) == 2


def test_a_disk_over_the_largest_size_is_refused(image):
    assert main(["inspect", str(image), "--max-size", "1M"]) == 4


def test_a_file_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_the_example_of_the_page_runs():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, PAGE.name, "exec"), {})
