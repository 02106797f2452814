"""The benchmark of the image service runs, without Glance too."""

from __future__ import annotations

import json

import pytest

from bench.__main__ import main


def test_rows_are_measured_without_a_peer(tmp_path, capsys):
    found = tmp_path / "found.json"
    words = ["--quick", "--peers", str(tmp_path / "none"), "--folder", str(tmp_path), "--json", str(found)]
    assert main(["--job", "service", *words, "--row", "by-tag", "--row", "memory"]) == 0
    told = capsys.readouterr()
    assert "only cowherd is measured" in told.err
    assert "| 25 of 2,000 by tag | - | " in told.out
    figures = json.loads(found.read_text())
    assert 0 < figures["memory"]["ours"]["idle MiB"] <= figures["memory"]["ours"]["most MiB"]
    assert not list(tmp_path.glob("cowherd-bench-*"))


def test_a_row_that_is_unknown_is_refused():
    with pytest.raises(SystemExit):
        main(["--job", "service", "--row", "nothing"])
