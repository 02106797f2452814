"""The thread that keeps the stores: one of several does the duties, until it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from cowherd.errors import InvalidRequest
from cowherd.service.intake.arriving import Intake
from cowherd.service.keeping.keeper import Duty, Keeper
from tests.waiting import wait_until

OFTEN, SELDOM = 0.01, 3600.0


def keeper(intake: Intake, *duties: Duty) -> Keeper:
    return Keeper(intake.database, duties)


def test_duties_are_done_each_in_its_own_time(intake: Intake):
    often, seldom = [], []
    with keeper(intake, Duty("a", OFTEN, often.append), Duty("b", SELDOM, seldom.append)):
        wait_until(lambda: len(often) > 2)
    assert len(seldom) == 1


def test_one_of_two_keepers_works_and_the_other_one_after_it(intake: Intake):
    first, second = [], []
    with keeper(intake, Duty("a", OFTEN, first.append)):
        wait_until(lambda: first)
        with keeper(intake, Duty("a", OFTEN, second.append)):
            count = len(first)
            wait_until(lambda: len(first) > count + 2)
            assert second == []
    with keeper(intake, Duty("a", OFTEN, second.append)):
        wait_until(lambda: second)


@pytest.mark.parametrize("error", [InvalidRequest("it makes no sense"), ZeroDivisionError("a mistake")])
def test_a_duty_that_fails_is_told_and_ends_no_other(intake: Intake, caplog, error: Exception):
    done = []

    def fail(go_on: object) -> None:
        raise error

    with keeper(intake, Duty("the first", SELDOM, fail), Duty("b", SELDOM, done.append)):
        wait_until(lambda: done and caplog.text)
    assert "the first" in caplog.text
    assert str(error) in caplog.text


def test_a_long_duty_stops_when_the_service_ends(intake: Intake):
    begun, stopped = threading.Event(), []

    def work(go_on: Callable[[], None]) -> None:
        begun.set()
        try:
            while True:
                go_on()
                time.sleep(0.01)
        finally:
            stopped.append(True)

    with keeper(intake, Duty("long", SELDOM, work)):
        assert begun.wait(30)
    assert stopped == [True]
