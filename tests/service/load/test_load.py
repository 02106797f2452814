"""A short form of the trial; `python -m tests.service.load` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.load.trial import run


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kind"), [(1, "sqlite"), (4, "sqlite"), (4, "postgresql")])
def test_a_service_that_is_killed_under_load_has_what_it_acknowledged_and_nothing_that_it_refused(
    tmp_path: Path, workers: int, kind: str, request: pytest.FixtureRequest
):
    address = request.getfixturevalue("postgresql").create("load") if kind == "postgresql" else ""
    outcome = run(tmp_path, kills=3, workers=workers, seed=3, database=address)
    assert outcome.problems == []
    assert outcome.kills == 3
    assert outcome.compared > 10
    assert outcome.acknowledged["create"] > 8
