"""Processes of this program's own modules: how they are started, and what they may take."""

from __future__ import annotations

import os
import resource
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Returns the words that run a module of this program; -P keeps the current directory out of its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """Returns an environment in which a child finds the same modules wherever this program found its own."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def limit_self(memory: int, seconds: int, file: int) -> None:
    """Limits this process: bytes of address space, seconds of processor time, bytes of the longest file that it writes.

    It leaves no core either. Source: setrlimit(2).
    """
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_CORE, 0),
    ):
        # A limit that the caller already has may be lower, and only root could raise it.
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
