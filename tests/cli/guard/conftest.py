"""The guard's command line, run in this process."""

from __future__ import annotations

import json

import pytest

from cowherd.cli.guard.main import main
from tests.documents import check_document

LOOKED = ("searched", "known_dependents", "passed_over")
"""What every command that changes something says besides: where it looked."""


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
        document = json.loads(out)
        check_document(str(words[0]), document)
        del document["schema"]
        looked = [document.pop(key) for key in LOOKED if key in document]  # test_looked.py is about these
        assert all(isinstance(places, list) for places in looked)
        return code, document

    return run
