"""The service lives as long as each of its processes shows that it does."""

from __future__ import annotations

import os
import time

import pytest

from cowherd.service.web.serving.server import Life
from cowherd.service.web.serving.watchdog import Watchdog

PLACES = (0, 1, 2)


class Clock:
    """A clock that stands still until somebody turns it; counts how often life was told."""

    def __init__(self):
        self.now, self.told = 1000.0, 0

    def tell(self):
        self.told += 1


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def watchdog(clock):
    return Watchdog(3, Life(30.0, clock.tell))


def show(watchdog, *places):
    for place in places:
        watchdog.life_of(place).tell()


def test_life_is_told_while_all_show_it_and_by_one_for_all(watchdog, clock):
    show(watchdog, *PLACES)
    for told in range(1, 9):
        clock.now += 7.5
        show(watchdog, *PLACES)
        assert clock.told == told


@pytest.mark.parametrize("hung", PLACES)
def test_one_that_hangs_among_others_that_live_ends_it_and_is_named(watchdog, clock, caplog, hung):
    living = [place for place in PLACES if place != hung]
    show(watchdog, *PLACES)
    told = clock.told
    for _ in range(12):
        clock.now += 7.5
        show(watchdog, *living)
    assert clock.told <= told + 4  # within the 30 seconds
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == [f"worker {hung}"] * 8
    told = clock.told
    show(watchdog, *PLACES, 0)
    assert clock.told > told


def test_a_short_silence_is_none(watchdog, clock):
    show(watchdog, *PLACES)
    clock.now += 29
    show(watchdog, 0)
    assert clock.told == 1


def test_nothing_is_told_before_all_have_begun(watchdog, clock, caplog):
    show(watchdog, 0, 2, 0, 2)
    assert (clock.told, caplog.records) == (0, [])
    show(watchdog, 1, 0)
    assert clock.told == 1


def test_processes_see_the_signs_of_each_other(watchdog, clock):
    pid = os.fork()
    if not pid:
        show(watchdog, 1, 2)
        os._exit(0)
    os.waitpid(pid, 0)
    show(watchdog, 0)
    assert clock.told == 1


def test_signs_come_several_times_in_the_interval_and_never_if_nobody_waits_for_them(watchdog, clock):
    assert watchdog.life_of(0).seconds == 7.5
    assert Watchdog(3, Life(None, clock.tell)).life_of(0).seconds is None
