"""Moves bytes: one thread loads, stores and writes an item, since bytes just loaded are still in its processor's cache."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    Item = TypeVar("Item")
    Loaded = TypeVar("Loaded")

WriteJob = Callable[[], None]
"""Writes one item whose place is decided."""

_MOST_THREADS = 4


def flow(items: Iterable[Item], load: Callable[[Item], Loaded], store: Callable[[Item, Loaded], WriteJob | None]) -> None:
    """Loads items, several at once, stores them in the order given, and runs the write jobs that `store` returns.

    Any thread may call `load` and `store`. One thread stores at a time. Writes may overlap: the kernel admits one at a time to
    most files, but to wait there costs less than to wake another thread. The first error ends the rest, and is raised after
    everything that was begun has ended.
    """
    _Flow(items, load, store).run()


class _Flow:
    """One call of `flow`."""

    def __init__(self, items: Iterable[Any], load: Callable[[Any], Any], store: Callable[[Any, Any], WriteJob | None]) -> None:
        self._items = enumerate(items)
        self._load, self._store = load, store
        self._drawing, self._turn = threading.Lock(), threading.Condition()
        self._stored = 0
        self._stopped = False
        self._failure: BaseException | None = None

    def run(self) -> None:
        threads = min(_MOST_THREADS, os.cpu_count() or 1)  # more would only wait for the interpreter and for each other
        helpers = [threading.Thread(target=self._help) for _ in range(threads - 1)]
        for helper in helpers:
            helper.start()
        try:
            self._work()
        except BaseException:
            self._stop()
            raise
        finally:
            for helper in helpers:
                helper.join()
        if self._failure is not None:
            raise self._failure

    def _help(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for this one
            self._failure = error
            self._stop()

    def _work(self) -> None:
        while not self._stopped:
            with self._drawing:
                drawn = next(self._items, None)
            if drawn is None:
                return
            number, item = drawn
            job = self._store_in_turn(number, item, self._load(item))
            if job is not None:
                job()

    def _store_in_turn(self, number: int, item: Any, loaded: Any) -> WriteJob | None:
        with self._turn:
            self._turn.wait_for(lambda: self._stored == number or self._stopped)
            job = None if self._stopped else self._store(item, loaded)
            self._stored += 1
            self._turn.notify_all()
        return job

    def _stop(self) -> None:
        with self._turn:
            self._stopped = True
            self._turn.notify_all()
