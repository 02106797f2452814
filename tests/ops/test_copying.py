"""Moving bytes: what is loaded where, and in which order it is stored."""

from __future__ import annotations

import threading

import pytest

from cowherd.ops.copying import Buffers, pump


def test_items_are_stored_in_order_by_the_calling_thread():
    stored: list[tuple[int, int]] = []
    threads: set[threading.Thread] = set()

    def store(item: int, loaded: int) -> None:
        stored.append((item, loaded))
        threads.add(threading.current_thread())

    pump(range(50), lambda item: item * item, store)
    assert stored == [(item, item * item) for item in range(50)]
    assert threads == {threading.current_thread()}


def test_quick_items_are_loaded_by_the_calling_thread_and_others_are_not():
    loaders: dict[int, threading.Thread] = {}

    def load(item: int) -> None:
        loaders[item] = threading.current_thread()

    stored: list[int] = []
    pump(range(20), load, lambda item, _: stored.append(item), is_quick=lambda item: item % 3 == 0)
    assert stored == list(range(20))
    assert all((thread is threading.current_thread()) is (item % 3 == 0) for item, thread in loaders.items())


@pytest.mark.parametrize("is_quick", [True, False])
def test_the_first_error_ends_the_job(is_quick: bool):
    stored: list[int] = []

    def load(item: int) -> None:
        if item == 5:
            raise OSError(item)

    with pytest.raises(OSError, match="5"):
        pump(range(20), load, lambda item, _: stored.append(item), is_quick=lambda _: is_quick)
    assert stored == list(range(5))


def test_buffers_are_used_again():
    buffers = Buffers(100)
    first = buffers.take(10)
    first[:] = b"0123456789"
    buffers.give(first)
    assert buffers.take(100)[:10] == b"0123456789"
    assert buffers.take(5) == bytes(5)
