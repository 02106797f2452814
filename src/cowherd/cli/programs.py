"""The entry points of the installed programs."""

from __future__ import annotations

from cowherd.cli import entry  # first of all: it takes care of signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def guard() -> NoReturn:
    """Runs `cowherd`."""
    entry.guard(_guard)


def img() -> NoReturn:
    """Runs `cowherd-img`."""
    entry.img(_img)


def _guard() -> int:
    from cowherd.cli.guard.main import main

    return main()


def _img() -> int:
    from cowherd.cli.img.main import main

    return main()
