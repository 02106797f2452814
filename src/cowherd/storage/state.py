"""Where cowherd keeps what it knows of a host and can't put beside images: /var/lib/cowherd, or the user's own."""

from __future__ import annotations

import os

VARIABLE = "COWHERD_STATE"
"""The environment variable that names the directory of cowherd's state; "off" keeps nothing and looks for nothing."""
OFF = "off"

_SYSTEM = "/var/lib/cowherd"


def state_directories() -> list[str]:
    """Returns the directories, that for new things first: $XDG_STATE_HOME/cowherd or ~/.local/state/cowherd, and root's, which
    is the only one of root. COWHERD_STATE names another one in place of both, or none."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return [] if named == OFF else [os.path.abspath(named)]
    if os.geteuid() == 0:
        return [_SYSTEM]
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the specification has relative ones ignored
        home = os.path.join(os.path.expanduser("~"), ".local", "state")
    return [os.path.join(home, "cowherd"), _SYSTEM]
