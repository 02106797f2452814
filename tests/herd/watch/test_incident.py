"""When a base that is written to is examined."""

from __future__ import annotations

from cowherd.herd.watch.incident import LONGEST_PATIENCE_SECONDS, MAX_PROCESSES, PATIENCE_SECONDS, Incident
from cowherd.live.process import Process

SETTLE = 2.0


def test_it_is_examined_once_it_has_been_left_alone():
    incident = Incident(100, 100)
    incident.noted(101.5)
    assert incident.due(SETTLE) == 103.5


def test_one_that_never_settles_is_examined_all_the_same():
    incident = Incident(100, 100)
    incident.noted(100 + PATIENCE_SECONDS - 0.1)
    assert incident.due(SETTLE) == 100 + PATIENCE_SECONDS


def test_it_is_not_examined_twice_at_a_time():
    incident = Incident(100, 100)
    incident.examine(102)
    incident.noted(103)
    assert incident.due(SETTLE) == float("inf")


def test_it_is_over_when_nothing_came_after_the_examination_began():
    incident = Incident(100, 100)
    incident.examine(102)
    assert incident.concluded(110, still_changing=False)


def test_a_write_during_the_examination_calls_for_another():
    incident = Incident(100, 100)
    incident.examine(102)
    incident.noted(105)
    assert not incident.concluded(110, still_changing=False)
    assert incident.due(SETTLE) == 112


def test_one_without_an_end_is_examined_less_and_less_often():
    incident, now, waits = Incident(0, 0), 0.0, []
    for _ in range(8):
        incident.noted(incident.opened + incident.patience)
        waits.append(incident.due(SETTLE) - now)
        now = incident.due(SETTLE)
        incident.examine(now)
        incident.noted(now + 0.5)
        incident.concluded(now, still_changing=True)
    assert waits[:3] == [PATIENCE_SECONDS, 2 * PATIENCE_SECONDS, 4 * PATIENCE_SECONDS]
    assert waits[-1] == LONGEST_PATIENCE_SECONDS


def test_a_process_is_new_once_and_a_great_many_are_not_all_named():
    incident = Incident(0, 0)
    assert incident.is_new(Process(1))
    assert not incident.is_new(Process(1))
    assert sum(incident.is_new(Process(pid)) for pid in range(2, 100)) == MAX_PROCESSES - 1
