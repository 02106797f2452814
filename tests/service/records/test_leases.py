"""Leases: one process does a work, and another one once that has not renewed its lease."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from cowherd.service.records import leases
from cowherd.service.records.image import now
from cowherd.service.records.leases import end_lease, take_lease
from tests.service.databases.again import opened_again

MINUTE, LAPSED = timedelta(minutes=1), timedelta(minutes=-1)


def test_one_process_has_a_lease_and_renews_it(connection):
    assert take_lease(connection, "work", "one", MINUTE) is True
    assert take_lease(connection, "work", "two", MINUTE) is False
    assert take_lease(connection, "work", "one", MINUTE) is True


def test_works_of_other_names_are_others(connection):
    assert take_lease(connection, "work", "one", MINUTE) is True
    assert take_lease(connection, "play", "two", MINUTE) is True


def test_a_lease_that_was_not_renewed_goes_to_who_asks(connection):
    assert take_lease(connection, "work", "one", LAPSED) is True
    assert take_lease(connection, "work", "two", MINUTE) is True
    assert take_lease(connection, "work", "one", MINUTE) is False


def test_a_lease_that_is_given_up_goes_to_who_asks(connection):
    take_lease(connection, "work", "one", MINUTE)
    end_lease(connection, "work", "two")
    assert take_lease(connection, "work", "two", MINUTE) is False
    end_lease(connection, "work", "one")
    assert take_lease(connection, "work", "two", MINUTE) is True


def test_of_processes_that_ask_at_once_one_gets_a_lease(database):
    taken, start = [], threading.Barrier(4)

    def take(holder: str) -> None:
        with opened_again(database) as own:
            start.wait()
            with own.write() as connection:
                taken.append(take_lease(connection, "work", holder, MINUTE))

    threads = [threading.Thread(target=take, args=(f"{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False, False, False, True]


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_jumps_keeps_a_work_from_nobody(connection, monkeypatch, hours):
    take_lease(connection, "work", "dead", MINUTE)
    later = now() + timedelta(hours=hours)
    monkeypatch.setattr(leases, "now", lambda: later)
    assert take_lease(connection, "work", "alive", MINUTE) is True
    assert take_lease(connection, "work", "another", MINUTE) is False
