"""How programs begin: nothing else is loaded before signals and streams are taken care of.

Only programs import this module, for it begins at once: who presses Ctrl-C while modules load wants no traceback of that.
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
