"""The guard's command line, run in this process."""

from __future__ import annotations

import json

import pytest

from cowherd.cli.guard.main import main


@pytest.fixture
def cowherd(capsys):
    """Runs the command and returns (exit code, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def as_json(cowherd):
    def run(*words: object) -> tuple[int, dict]:
        code, out, _ = cowherd(*words, "--json")
        return code, json.loads(out)

    return run
