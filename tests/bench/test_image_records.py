"""The benchmark of the image service's records runs, and finds what it looks for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "bench" / "programs" / "image_records.py"


def test_every_query_is_measured(tmp_path):
    command = [sys.executable, PROGRAM, tmp_path, "2000", "1"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"^(.*?) +[\d.]+ ms, (\d+) images$", printed, re.MULTILINE))
    assert found["page of 1,000"] == "700"  # a quarter is public, a tenth the viewer's own
    assert (found["by a tag of one in 1,000"], found["by a property of one"], found["by a name"]) == ("2", "1", "1")
    assert re.search(r"^creates of 8 threads, durable +\d+ a second$", printed, re.MULTILINE)
