from __future__ import annotations

import threading
import time

import pytest

from cowherd.ops import workers
from cowherd.ops.workers import share_out


@pytest.fixture(autouse=True)
def few_bytes(monkeypatch):
    """Threads are worth their while from one byte on."""
    monkeypatch.setattr(workers, "_FEW_BYTES", 0)


def test_every_task_is_done_once_and_counted():
    done, seen = [], []

    def work(task):
        done.append(task)
        return task

    share_out(iter(range(1, 101)), work, 5050, lambda count, total: seen.append((count, total)))
    assert sorted(done) == list(range(1, 101))
    assert seen[-1] == (5050, 5050)
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)


def test_several_threads_take_part(monkeypatch):
    monkeypatch.setattr(workers, "_WORKERS", 3)
    together = threading.Barrier(3, timeout=30)
    share_out(iter(range(1, 4)), lambda task: together.wait() and 1, 3)


@pytest.mark.parametrize("tasks", [[], [3]], ids=["none", "one"])
def test_a_single_task_is_done_by_the_calling_thread(monkeypatch, tasks):
    monkeypatch.setattr(threading, "Thread", None)
    done, seen = [], []

    def work(task):
        done.append((task, threading.get_ident()))
        return task

    share_out(iter(tasks), work, 3, lambda count, total: seen.append((count, total)))
    assert done == [(task, threading.get_ident()) for task in tasks]
    assert seen == [(task, 3) for task in tasks]


@pytest.mark.parametrize("error", [ValueError("bad task"), KeyboardInterrupt()])
def test_the_first_error_is_raised_and_no_further_task_begins(monkeypatch, error):
    monkeypatch.setattr(workers, "_WORKERS", 2)
    begun, threads = [], threading.active_count()

    def work(task):
        begun.append(task)
        if task == 1:
            raise error
        time.sleep(0.05)
        return 1

    with pytest.raises(type(error)):
        share_out(iter(range(1, 1000)), work, 1000)
    assert len(begun) < 10
    assert threading.active_count() == threads


def test_an_error_in_drawing_tasks_is_raised_too():
    def tasks():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        share_out(tasks(), lambda task: 1, 1)


def test_few_bytes_are_done_by_the_calling_thread(monkeypatch):
    monkeypatch.setattr(workers, "_FEW_BYTES", 10)
    monkeypatch.setattr(threading, "Thread", None)
    done, seen = [], []
    share_out(iter([3, 4, 3]), lambda task: done.append(task) or task, 10, lambda count, total: seen.append((count, total)))
    assert done == [3, 4, 3]
    assert seen == [(3, 10), (7, 10), (10, 10)]
