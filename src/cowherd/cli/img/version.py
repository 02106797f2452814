"""The output of --version: cowherd's own name and version."""

from __future__ import annotations

_STANDS_IN_FOR = "10.0.0"
"""The version of qemu-img with the same arguments and output, which scripts look for in `qemu-img --version`."""


def version_text(program: str) -> str:
    """Returns the output of --version for a program called `program`."""
    from cowherd.distribution import version

    found = version()
    own = f"cowherd-img version {found}" if found else "cowherd-img (run from its sources)"
    about = "A drop-in for qemu-img 10, with a guard over backing files\n"
    return f"qemu-img version {_STANDS_IN_FOR} ({own})\n{about}" if program == "qemu-img" else f"{own}\n{about}"
