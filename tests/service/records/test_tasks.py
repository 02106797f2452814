"""Tasks: leased by one process at a time, and taken over from one that died."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from cowherd.service.records import tasks
from cowherd.service.records.faults import LeaseLost, TaskNotFound
from cowherd.service.records.image import now
from cowherd.service.records.tasks import (
    Task,
    create_task,
    finish_task,
    forget_tasks,
    list_tasks,
    read_task,
    renew_lease,
    take_task,
)
from tests.service.databases.again import opened_again

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LEASE, LAPSED = timedelta(minutes=1), timedelta(minutes=-1)


def create(connection, *names: str, **facts) -> None:
    for name in names:
        count = len(list_tasks(connection))
        create_task(connection, Task(id=name, type="import", created_at=FIRST + timedelta(hours=count), **facts))


def test_a_task_is_read_as_it_was_recorded(connection):
    task = Task(
        id="t",
        type="import",
        owner="p",
        image_id="i",
        request_id="r",
        user_id="u",
        input={"uri": "http://x"},
        progress={"bytes": 5},
    )
    create_task(connection, task)
    assert read_task(connection, "t") == task
    with pytest.raises(TaskNotFound):
        read_task(connection, "none")


def test_the_eldest_task_is_taken_first(connection):
    create(connection, "b", "a")
    first, second = take_task(connection, "one", LEASE, {"import"}), take_task(connection, "two", LEASE, {"import"})
    assert [(first.id, first.holder), (second.id, second.holder)] == [("b", "one"), ("a", "two")]
    assert first.status == "processing"
    assert first.leased_until > now()
    assert take_task(connection, "one", LEASE, {"import"}) is None


def test_only_tasks_of_the_types_asked_for_are_taken(connection):
    create(connection, "a")
    assert take_task(connection, "one", LEASE, {"standalone"}) is None
    assert take_task(connection, "one", LEASE, {"standalone", "import"}).id == "a"


def test_a_task_whose_lease_ran_out_is_taken_over(connection):
    create(connection, "a")
    take_task(connection, "dead", LAPSED, {"import"})
    assert take_task(connection, "alive", LEASE, {"import"}).holder == "alive"
    for change in (
        lambda: renew_lease(connection, "a", "dead", LEASE, {}),
        lambda: finish_task(connection, "a", "dead", expires_at=FIRST),
    ):
        with pytest.raises(LeaseLost):
            change()
    assert read_task(connection, "a").holder == "alive"


def test_a_lease_is_renewed_with_what_was_done(connection):
    create(connection, "a")
    take_task(connection, "one", LAPSED, {"import"})
    renew_lease(connection, "a", "one", LEASE, {"bytes": 7})
    assert read_task(connection, "a").progress == {"bytes": 7}
    assert take_task(connection, "two", LEASE, {"import"}) is None


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [({"result": {"image_id": "i"}}, "success", ""), ({"failure": "it was refused"}, "failure", "it was refused")],
)
def test_a_task_ends_once(connection, outcome, status, message):
    create(connection, "a")
    take_task(connection, "one", LEASE, {"import"})
    finish_task(connection, "a", "one", expires_at=FIRST, **outcome)
    task = read_task(connection, "a")
    assert (task.status, task.message, task.result, task.holder) == (status, message, outcome.get("result"), None)
    with pytest.raises(LeaseLost):
        finish_task(connection, "a", "one", expires_at=FIRST)
    assert take_task(connection, "one", LEASE, {"import"}) is None


def test_a_task_is_forgotten_when_it_has_expired(connection):
    create(connection, "a", "b")
    take_task(connection, "one", LEASE, {"import"})
    finish_task(connection, "a", "one", expires_at=FIRST)
    assert forget_tasks(connection, FIRST) == 0
    assert forget_tasks(connection, FIRST + LEASE) == 1
    assert [task.id for task in list_tasks(connection)] == ["b"]


def test_tasks_are_listed_the_latest_first_and_walked(connection):
    create(connection, "a", "b", owner="p", image_id="i")
    create(connection, "c", owner="q")
    take_task(connection, "one", LEASE, {"import"})
    assert [task.id for task in list_tasks(connection)] == ["c", "b", "a"]
    assert [task.id for task in list_tasks(connection, marker="c", limit=1)] == ["b"]
    assert [task.id for task in list_tasks(connection, owner="p", image_id="i")] == ["b", "a"]
    assert [task.id for task in list_tasks(connection, status="processing", type="import")] == ["a"]
    with pytest.raises(TaskNotFound):
        list_tasks(connection, marker="none")


def test_processes_that_ask_at_once_get_different_tasks(database):
    with database.write() as connection:
        create(connection, *"abcdef")
    taken, start = [], threading.Barrier(4)

    def work(holder: str) -> None:
        with opened_again(database) as own:
            start.wait()
            while True:
                with own.write() as connection:
                    task = take_task(connection, holder, LEASE, {"import"})
                if task is None:
                    return
                taken.append(task.id)

    threads = [threading.Thread(target=work, args=(f"{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list("abcdef")


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_jumps_leaves_no_task_with_a_dead_process(connection, monkeypatch, hours):
    create(connection, "t")
    take_task(connection, "dead", LEASE, ["import"])
    later = now() + timedelta(hours=hours)
    monkeypatch.setattr(tasks, "now", lambda: later)
    assert take_task(connection, "alive", LEASE, ["import"]).holder == "alive"
    assert take_task(connection, "another", LEASE, ["import"]) is None
