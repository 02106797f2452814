"""The directories for what cowherd knows of a host and can't store beside images: /var/lib/cowherd, or the user's own."""

from __future__ import annotations

import os

VARIABLE = "COWHERD_STATE"
"""The environment variable that names the directory of cowherd's state; with "off" nothing is stored or looked for."""
OFF = "off"

_SYSTEM = "/var/lib/cowherd"


def state_directories() -> list[str]:
    """Returns the directories to look in; new records go to the first. These are $XDG_STATE_HOME/cowherd (by default
    ~/.local/state/cowherd), then root's; root has only its own. COWHERD_STATE names another one in place of both, or none."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return [] if named == OFF else [os.path.abspath(named)]
    if os.geteuid() == 0:
        return [_SYSTEM]
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the specification has relative ones ignored
        home = os.path.join(os.path.expanduser("~"), ".local", "state")
    return [os.path.join(home, "cowherd"), _SYSTEM]
