"""The program that measures how bytes are taken in and verified runs, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.programs import image_bytes


def test_each_job_is_measured_and_nothing_is_left(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["image_bytes.py", str(tmp_path), "8", "1"])
    image_bytes.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "md5, sha512, BLAKE3",
        "sha256, BLAKE3",
        "4 at once",
        "sparse",
        "verify",
    ]
    assert lines[3].startswith("sparse: 1.000 ")
    assert list(tmp_path.iterdir()) == []
