"""What the installed programs call: nothing is loaded before signals and streams are taken care of."""

from __future__ import annotations

import sys

from cowherd.cli.process import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_NOT_COMPARED = 2  # 1 would say that the images differ


def _guard() -> int:
    from cowherd.cli.guard.main import main

    return main()


def _img() -> int:
    from cowherd.cli.img.main import main

    return main()


def guard(main: Callable[[], int] = _guard) -> NoReturn:
    """Runs `cowherd`."""
    run(main, "cowherd")


def img(main: Callable[[], int] = _img) -> NoReturn:
    """Runs `cowherd-img`."""
    lost = _NOT_COMPARED if sys.argv[1:2] == ["compare"] else 1
    run(main, "cowherd-img", lost)
