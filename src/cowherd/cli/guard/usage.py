"""Wrong command lines: one line each that says what is wrong, and what was probably meant."""

from __future__ import annotations

from cowherd.errors import CowherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ELSEWHERE = {
    "ls": "cowherd tree",
    "list": "cowherd tree",
    "dir": "cowherd tree",
    "check": "cowherd verify",
    "fsck": "cowherd doctor",
    "diff": "cowherd impact",
    "mv": "cowherd move",
    "rm": "cowherd delete",
    "undelete": "cowherd trash restore",
    "restore": "cowherd trash restore",
    "snapshot": "cowherd clone",
    "rebase": "cowherd retarget (or cowherd-img rebase, as qemu-img has it)",
    "commit": "cowherd merge (or cowherd-img commit, as qemu-img has it)",
    "protect": "cowherd seal",
    "lock": "cowherd seal",
    "top": "cowherd ps",
    "history": "cowherd log",
    "info": "cowherd show (or cowherd-img info, as qemu-img has it)",
    **{name: f"cowherd-img {name}" for name in ("compare", "convert", "create", "dd", "map", "measure", "resize")},
}
"""What other tools call a command, and the command line here that does it."""


class UsageError(CowherdError):
    """The command line makes no sense. Attributes: `problem`, `remedy` (a command line that helps)."""

    exit_code = 2

    def __init__(self, problem: str, remedy: str):
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def no_such_command(name: str, commands: Iterable[str]) -> UsageError:
    """Returns the error for a command that is not there, with what does that here, or what looks like it."""
    problem = f"there is no command {name!a}"
    if name in ELSEWHERE:
        return UsageError(problem, f"that is: {ELSEWHERE[name]}")
    return UsageError(problem, _meant(name, [*commands, *ELSEWHERE], "'cowherd help' lists them"))


def no_such_option(name: str, options: Iterable[str], command: str) -> UsageError:
    """Returns the error for an option that `command` (`cowherd seal`) does not have."""
    return UsageError(f"there is no option {name!a}", _meant(name, options, f"'{command} --help' lists them"))


def _meant(name: str, known: Iterable[str], otherwise: str) -> str:
    from difflib import get_close_matches

    like = get_close_matches(name, list(known), n=2, cutoff=0.7)
    return f"did you mean {' or '.join(dict.fromkeys(ELSEWHERE.get(one, one) for one in like))}?" if like else otherwise
