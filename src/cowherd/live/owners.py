"""Whose a process is: its user and its systemd unit, from /proc."""

from __future__ import annotations

import contextlib

from cowherd.text import printable

PROC = "/proc"
_UNITS = (".service", ".scope")


def user_of(pid: int) -> str | None:
    """Returns the name of a process's effective user (proc_pid_status(5)), escaped, or the number if it has no name.

    Returns None if the process has ended.
    """
    with contextlib.suppress(OSError), open(f"{PROC}/{pid}/status", "rb") as file:
        uid = next((line.split()[2] for line in file if line.startswith(b"Uid:")), None)
        return None if uid is None else user_name(int(uid))
    return None


def user_name(uid: int) -> str:
    """Returns the name of a user, escaped, or the number if it has no name."""
    import pwd  # only where it is asked: this module is loaded whenever a file is opened

    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return str(uid)


def unit_of(groups: str) -> str | None:
    """Returns the innermost systemd unit in the text of /proc's cgroup file, of version 2 or of systemd's own hierarchy in
    version 1; None if there is none."""
    for line in groups.splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        units = [part for part in path.split("/") if part.endswith(_UNITS)] if controllers in ("", "name=systemd") else []
        if units:
            return units[-1]
    return None


def unit_of_process(pid: int) -> str | None:
    """Returns the innermost systemd unit of a process, escaped; None if it has none, or has ended."""
    with contextlib.suppress(OSError), open(f"{PROC}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        unit = unit_of(file.read())
        return printable(unit) if unit else None
    return None
