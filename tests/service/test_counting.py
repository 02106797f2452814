"""What is counted, by threads and processes."""

from __future__ import annotations

import os
import threading

import pytest

from cowherd.service import counting
from cowherd.service.counting import BOUNDS, Counted, Rows

THINGS = Counted("things", "Things.", ("kind",))


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """Numbers of this test's own."""
    monkeypatch.setattr(counting, "_rows", Rows(1))


def in_process(work):
    """Runs `work` in a forked process, which has to end well."""
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_is_counted_is_told_by_its_labels():
    counting.add(THINGS, "red")
    counting.add(THINGS, "red", by=2.5)
    counting.add(THINGS, "")
    assert counting.totals() == {"things": {("red",): 3.5, ("",): 1.0}}


def test_threads_lose_nothing():
    def count():
        for _ in range(20_000):
            counting.add(THINGS, "red")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counting.totals()["things"]["red",] == 80_000


def test_processes_are_added_up_and_one_goes_on_where_its_predecessor_was():
    counting.share(2)
    counting.add(THINGS, "red")

    def work(place, kind):
        counting.be_process(place)
        counting.add(THINGS, kind, by=10)

    in_process(lambda: work(0, "red"))
    in_process(lambda: work(1, "green"))
    in_process(lambda: work(0, "red"))
    assert counting.totals()["things"] == {("red",): 21, ("green",): 10}


def test_what_was_under_way_in_a_process_that_died_is_not_any_more():
    counting.share(1)

    def die():
        counting.be_process(0)
        counting.add(counting.UNDER_WAY, "list")
        counting.add(counting.REQUESTS, "list", "2xx")

    in_process(die)
    assert counting.totals()[counting.UNDER_WAY.name] == {("list",): 1}
    in_process(lambda: counting.be_process(0))
    assert counting.totals()[counting.UNDER_WAY.name] == {("list",): 0}
    assert counting.totals()[counting.REQUESTS.name] == {("list", "2xx"): 1}


def test_what_takes_time_is_counted_by_the_bound_that_it_did_not_pass():
    for seconds in (0.0, BOUNDS[0], BOUNDS[-1], BOUNDS[-1] + 1):
        counting.observe(THINGS, seconds, "red")
    [timed] = counting.buckets(counting.totals()["things"]).values()
    assert timed.counts == (2, *[0] * (len(BOUNDS) - 2), 1, 1)
    assert timed.seconds == BOUNDS[0] + 2 * BOUNDS[-1] + 1


def test_more_names_than_there_is_room_for_harm_nobody(monkeypatch):
    monkeypatch.setattr(counting, "MOST", 2)
    monkeypatch.setattr(counting, "_rows", Rows(1))
    for kind in ("red", "x" * 100, "green", "blue", "red"):
        counting.add(THINGS, kind)
    assert counting.totals()["things"] == {("red",): 2, ("green",): 1}
