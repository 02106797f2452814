from __future__ import annotations

import itertools

import pytest

from cowherd.cli.guard.look.page.states import severity_of, state_of, worst_of
from cowherd.herd.impact.verdict import WORST_LAST
from cowherd.herd.records.status import Status


@pytest.mark.parametrize("state", [*Status, *WORST_LAST])
def test_every_status_and_every_verdict_has_a_severity(state):
    assert severity_of(state) in ("bad", "warn", "quiet", "good")


def test_what_verify_calls_fine_is_not_bad_and_all_else_is():
    assert {status for status in Status if severity_of(status) == "bad"} == {status for status in Status if not status.is_fine}


def test_verdicts_are_in_the_order_that_impact_has():
    assert worst_of(WORST_LAST) == "torn"
    for milder, worse in itertools.pairwise(WORST_LAST):
        assert worst_of([milder, worse]) == worse


@pytest.mark.parametrize(
    ("status", "verdicts", "sealed", "state"),
    [
        (Status.DRIFTED, ["intact"], False, "intact"),
        (Status.DRIFTED, ["intact", "torn"], False, "torn"),
        (Status.DRIFTED, ["synchronised"], True, "drifted"),
        (Status.BINDING_MISMATCH, ["intact"], False, "binding-mismatch"),
        (Status.TOUCHED, [], False, "touched"),
    ],
)
def test_an_image_has_one_state(status, verdicts, sealed, state):
    assert state_of(status, verdicts, sealed=sealed) == state
