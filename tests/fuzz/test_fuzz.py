"""A short run of the fuzzer by chance; `make fuzz MINUTES=10` is guided by coverage and goes on for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.__main__ import ByChance, FromBytes, Fuzzer


def test_nothing_but_errors_of_the_project_comes_out(tmp_path: Path):
    fuzzer = Fuzzer(tmp_path, tmp_path / "findings")
    for number in range(300):
        fuzzer.one(ByChance(number))
    assert (fuzzer.inputs, fuzzer.found) == (300, set())


def test_every_kind_of_file_is_fuzzed(tmp_path: Path):
    fuzzer = Fuzzer(tmp_path, tmp_path / "findings")
    assert {seed.kind for seed in fuzzer.seeds} == set(targets.ACTIONS)


def test_what_a_fuzzer_chose_is_chosen_again():
    chosen = [FromBytes(b"\x05\x01\xff").number(most) for most in (9, 9)]
    assert chosen == [5, 5]


def test_a_finding_is_kept_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    fuzzer = Fuzzer(tmp_path, tmp_path / "findings")
    monkeypatch.setattr(fuzzer, "_exercise", lambda kind, path, action: 1 // 0)
    fuzzer.attempt("raw", b"content")
    (kept,) = (tmp_path / "findings").iterdir()
    assert kept.read_bytes() == b"content"
    assert f"--again {kept}" in capsys.readouterr().out
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", "--again", kept], capture_output=True, check=False)
    assert done.returncode == 0  # the file itself does no harm
