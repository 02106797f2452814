"""Ends a process at a moment that is chosen by its number."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from cowherd.service.records.database import Database
from tests.reliability.calls import CHANGING, interposed

SURVIVED, KILLED = 0, 9
_Opened = TypeVar("_Opened", bound=Any)


class Killer:
    """Ends the process at a moment: before or after a call that changes the store, a statement to the database, or a commit."""

    def __init__(self, moment: int, root: Path, database: Database):
        self._left, self._root, self._lock = moment, str(root), threading.Lock()
        dialect = database.engine.dialect
        for name in ("do_execute", "do_commit"):
            setattr(dialect, name, self._around(getattr(dialect, name)))

    def __call__(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """For `interposed`."""
        if name in CHANGING and self._is_in_store(arguments[0]):
            return self._around(call)(*arguments, **options)
        return call(*arguments, **options)

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self._count()
            result = call(*arguments, **options)
            self._count()
            return result

        return watched

    def _count(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                os._exit(KILLED)

    def _is_in_store(self, target: int | str | Path) -> bool:
        name = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
        return name.startswith(self._root)


def killed_at(
    moment: int, root: Path, opened: Callable[[], AbstractContextManager[_Opened]], work: Callable[[_Opened], object]
) -> bool:
    """Does some work in another process, which is killed at a moment; returns False if it came to its end before.

    `opened` opens there what the work is done with: a thing that has a `database`.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            with opened() as thing:
                with thing.database.engine.connect() as connection:  # the first connection makes statements of its own
                    connection.exec_driver_sql("SELECT 1")
                with interposed(Killer(moment, root, thing.database)):
                    work(thing)
                code = SURVIVED
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (SURVIVED, KILLED)
    return code == KILLED
