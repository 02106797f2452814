from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd.cli.guard.layout import laid_out
from cowherd.cli.guard.output import table
from cowherd.cli.guard.rows import Rows

ROW = {"path": 'a"},\n      {', "names": ["x", "y"], "size": None, "sealed": True}


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"a": [], "b": {"c": [1, {"d": "\n"}]}}])
def test_documents_are_laid_out_as_json_does_it(document):
    assert "".join(laid_out(document)) == json.dumps(document, indent=2)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_are_objects_with_a_line_for_each_member(count):
    document = {"before": [1, 2], "rows": Rows([ROW] * count), "after": None}
    text = "".join(laid_out(document))
    assert json.loads(text) == {**document, "rows": [ROW] * count}
    assert text.count('\n      "path": ') == text.count('\n      "sealed": true\n    }') == count


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("directory", [".", "nowhere"])
def test_a_full_disk_under_the_output_is_an_error(tmp_path, directory, as_json):
    command = [sys.executable, "-m", "cowherd.cli.guard.main", "tree", tmp_path / directory, *as_json]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lost = "cowherd: could not write to standard output: No space left on device; the command itself "
    assert done.stderr.splitlines()[-1].startswith(lost) or (directory == "nowhere" and not as_json)


def test_an_error_of_the_host_that_nobody_expected_is_told_with_the_name_of_its_file(tmp_path, monkeypatch, cowherd, as_json):
    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/some/file\n")

    monkeypatch.setattr("cowherd.cli.guard.main._run", failing)
    said = "Could not use '/some/file\\x0a': Input/output error"
    assert cowherd("tree", tmp_path) == (1, "", f"cowherd: {said}\n")
    assert as_json("tree", tmp_path)[1]["error"]["message"] == said


def test_columns_are_as_wide_as_their_longest_cell_and_nothing_trails():
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
