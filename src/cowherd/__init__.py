"""cowherd: tend a herd of QEMU copy-on-write disks.

`cowherd.open` gives a disk to read and write; `create`, `convert`, `commit`, `rebase`, `compare`, `check`, `measure` and `resize` are jobs on
whole images; `clone`, `seal`, `unseal`, `verify`, `impact`, `repair` and `tree` are the guard. Names are looked up in `cowherd.api` and
`cowherd.errors` when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cowherd.api import *  # noqa: F403  (type checkers see the names; at run time __getattr__ finds them)
    from cowherd.errors import *  # noqa: F403


def __getattr__(name: str) -> Any:
    from importlib import import_module
    from importlib.machinery import PathFinder

    # `from cowherd import extents` asks here first; a module must not drag the whole API in, which may be importing it just now.
    if not name.startswith("_") and PathFinder.find_spec(f"{__name__}.{name}", __path__) is None:
        for module in ("cowherd.errors", "cowherd.api"):
            found = import_module(module)
            if name in getattr(found, "__all__", ()):
                return getattr(found, name)
    raise AttributeError(f"module 'cowherd' has no attribute '{name}'")


def __dir__() -> list[str]:
    from cowherd import api, errors

    return sorted({*api.__all__, *errors.__all__})
