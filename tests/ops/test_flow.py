"""The flow of a copy: loaded side by side, stored in order, ended by the first error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from cowherd.ops.flow import flow


def test_items_are_stored_in_order_although_later_ones_are_loaded_first() -> None:
    stored: list[tuple[int, int]] = []

    def load(item: int) -> int:
        time.sleep(0.002 * (item % 3 == 0))
        return item * 10

    flow(range(30), load, lambda item, loaded: stored.append((item, loaded)))
    assert stored == [(item, item * 10) for item in range(30)]


def test_everything_is_written_at_the_end_and_one_is_stored_at_a_time() -> None:
    storing = threading.Lock()
    written: list[int] = []

    def store(item: int, _: int) -> Callable[[], None]:
        assert storing.acquire(blocking=False)
        time.sleep(0.001)
        storing.release()
        return lambda: written.append(item)

    flow(range(20), lambda item: item, store)
    assert sorted(written) == list(range(20))


def test_an_interrupt_ends_everything() -> None:
    def load(item: int) -> int:
        if item >= 3 and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.001)
        return item

    stored: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        flow(range(1000), load, lambda item, _: stored.append(item))
    assert stored == list(range(len(stored)))
    assert len(stored) < 1000
    assert threading.active_count() == 1


class Broken(Exception):
    """What goes wrong."""


def _fails(at: int) -> Callable[..., int]:
    def step(item: int, *_: int) -> int:
        if item == at:
            raise Broken
        return item

    return step


@pytest.mark.parametrize("at", [0, 1, 7])
@pytest.mark.parametrize("step", ["items", "load", "store", "write"])
def test_the_first_error_ends_everything_and_is_raised(step: str, at: int) -> None:
    loaded: list[int] = []
    written: list[int] = []
    fails = _fails(at)
    items = (fails(item) if step == "items" else item for item in range(1000))

    def load(item: int) -> int:
        loaded.append(item)
        return fails(item) if step == "load" else item

    def store(item: int, _: int) -> Callable[[], None] | None:
        if step == "store":
            fails(item)
        return (lambda: written.append(fails(item))) if step == "write" else None

    with pytest.raises(Broken):
        flow(items, load, store)
    assert len(loaded) < 1000
    assert threading.active_count() == 1


def test_nothing_is_stored_after_an_item_that_could_not_be() -> None:
    stored: list[int] = []
    with pytest.raises(Broken):
        flow(range(50), _fails(5), lambda item, _: stored.append(item))
    assert stored == list(range(len(stored)))
    assert len(stored) <= 5
