"""What --version prints: cowherd's own name and version."""

from __future__ import annotations

_STANDS_IN_FOR = "10.0.0"
"""The qemu-img whose arguments and output are spoken: what scripts look for that ask `qemu-img --version`."""


def version_text(program: str) -> str:
    """Returns what --version prints when called as `program`."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = f"cowherd-img version {version('cowherd')}"
    except PackageNotFoundError:
        own = "cowherd-img (run from its sources)"
    about = "A drop-in for qemu-img 10, with a guard over backing files\n"
    return f"qemu-img version {_STANDS_IN_FOR} ({own})\n{about}" if program == "qemu-img" else f"{own}\n{about}"
