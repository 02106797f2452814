"""Runs one command and prints what it cost, as JSON: {"wall", "flush", "cpu" in seconds, "peak" in bytes, "code", "stopped"}.

    python -I -S launch.py STDOUT LIMIT FLUSH COMMAND [ARGUMENT ...]

A command that still runs after LIMIT seconds (0: there is no limit) is killed with all that it started, and "stopped" is true.
"flush" is how long it then takes until the file system of the folder FLUSH has on its disk what the command wrote (0 if FLUSH is
empty).

A program of its own, and a small one: Linux counts the memory of the process that starts a child into the child's peak. What
this one takes itself (some 10 MiB) is thus the least that can be measured. Costs are those of the child and of all that it
waited for.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main() -> None:
    """Runs the command of the command line with its standard output in the file named first."""
    output, limit, folder, command = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4:]
    stopped: list[int] = []

    def stop(*_: object) -> None:
        try:
            os.killpg(child, signal.SIGKILL)
            stopped.append(child)
        except ProcessLookupError:
            """It came to its end in the same moment."""

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    redirect = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, output, flags, 0o644)]
    began = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=redirect, setpgroup=0)
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(child, signal.SIGTERM))  # ends all that the command started
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    _, status, usage = os.wait4(child, 0)
    ended = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, 0)
    cost = {"wall": ended - began, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}
    if folder and not stopped:
        flush(folder)
    cost["flush"] = time.perf_counter() - ended if folder else 0
    json.dump(cost | {"code": os.waitstatus_to_exitcode(status), "stopped": bool(stopped)}, sys.stdout)


def flush(folder: str) -> None:
    """Waits until the folder's file system has everything on its disk. An error of it ends the program."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the command has ended, and its number may be another's
    process = os.posix_spawnp("sync", ["sync", "--file-system", folder], os.environ)
    _, status = os.waitpid(process, 0)
    if status:
        sys.exit(f"sync --file-system {folder}: exit code {os.waitstatus_to_exitcode(status)}")


main()
