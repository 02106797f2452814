"""Starts the programs: prepares signals and streams before anything else is loaded.

Only programs import this module, because it acts on import: a Ctrl-C while modules load must not print a traceback.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see cowherd.cli.process
import sys

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until `run` has its own

from cowherd.cli.process import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_NOT_COMPARED = 2  # 1 would say that the images differ


def guard(main: Callable[[], int]) -> NoReturn:
    """Runs `cowherd`."""
    run(main, "cowherd")


def img(main: Callable[[], int]) -> NoReturn:
    """Runs `cowherd-img`."""
    lost = _NOT_COMPARED if sys.argv[1:2] == ["compare"] else 1
    run(main, "cowherd-img", lost)
