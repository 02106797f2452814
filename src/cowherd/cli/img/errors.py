"""The errors of the command line itself."""

from __future__ import annotations

from cowherd.errors import CowherdError


class CommandFailed(CowherdError):
    """The command ends here. Attributes: `message` (qemu-img's words), `exit_code`, `further` (more messages)."""

    def __init__(self, message: str, exit_code: int = 1, *, further: str = ""):
        super().__init__(message)
        self.message, self.exit_code, self.further = message, exit_code, further


class CannotOpen(CommandFailed):
    """An image can't be opened. Attributes beside those of `CommandFailed`: `problem` (the reason)."""

    def __init__(self, text: str, problem: str, exit_code: int = 1):
        super().__init__(f"Could not open '{text}': {problem}", exit_code)
        self.problem = problem


class UsageError(CommandFailed):
    """The arguments make no sense. The message refers to --help; the exit code is qemu-img's for that, 1.

    `by_getopt` says that the message is getopt's own, which begins with the command's name ("qemu-img info: invalid option").
    """

    def __init__(self, message: str, *, by_getopt: bool = False):
        super().__init__(message)
        self.by_getopt = by_getopt


class HelpWanted(CowherdError):
    """--help was given; not a failure."""

    exit_code = 0
