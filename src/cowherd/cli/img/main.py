"""Entry point of `cowherd-img`: finds the command, imports its module only, and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys

from cowherd import notes
from cowherd.cli.img.errors import CommandFailed, HelpWanted, UsageError
from cowherd.cli.img.output import err, out
from cowherd.cli.memory import keep_freed_memory
from cowherd.errors import CowherdError, error_of_host
from cowherd.text import printable
from cowherd.urls import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from cowherd.cli.img.options import Arguments, Syntax

COMMANDS = {
    "check": "Check basic image integrity",
    "commit": "Commit image to its backing file",
    "compare": "Check if two images have the same contents",
    "convert": "Copy one image to another with optional format conversion",
    "create": "Create and format new image file",
    "dd": "Copy input to output with optional format conversion",
    "info": "Display information about image",
    "map": "Dump image metadata",
    "measure": "Calculate file size required for a new image",
    "rebase": "Change backing file of the image",
    "resize": "Resize the image to the new size",
    "snapshot": "List snapshots within image",
}
"""Each command is a module of this package with `SYNTAX` and `run(arguments) -> exit code`."""

_NAMING_FIRST = ("commit", "rebase", "resize")
"""The commands whose first operand is the image that they change."""

_LOGGED = (*_NAMING_FIRST, "convert", "create", "dd")
"""The commands that are logged; the last three if they write over an image that is there."""

ABSENT = ("amend", "bench", "bitmap")
"""Commands of qemu-img that cowherd-img does not have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (sys.argv by default) and returns its exit code. Nothing but SystemExit escapes."""
    words = list(sys.argv if argv is None else argv)
    program = _program_name(words[0])
    notes.listeners[:] = [lambda note: err(f"{program}: warning: {note}\n")]
    code = _dispatch(words[1:], program)
    sys.stdout.flush()
    return code


def _program_name(path: str) -> str:
    name = os.path.basename(path)
    return "cowherd-img" if name in ("", "__main__.py", "main.py") else name


def _dispatch(words: list[str], program: str) -> int:
    if not words:
        return _complain(UsageError("Not enough arguments"), program, "")
    command = words[0]
    if command.startswith("-") and command != "-":
        return _standard_option(words, program)
    if command not in COMMANDS:
        absent = f"'{command}' is a command of qemu-img that cowherd-img does not have"
        return _complain(UsageError(absent if command in ABSENT else f"Command not found: {command}"), program, "")
    return _run(command, words[1:], program)


def _run(command: str, words: list[str], program: str) -> int:
    from cowherd.cli.img.options import parse

    keep_freed_memory()
    module = __import__(f"cowherd.cli.img.{command}", fromlist=["run"])  # `importlib` would have to be loaded
    syntax: Syntax = module.SYNTAX
    _warn_of_merges(words, program)
    try:
        code = _carried_out(command, module.run, parse(syntax, words, program))
    except HelpWanted:
        from cowherd.cli.img.help import command_help

        out(command_help(syntax, program))
        return 0
    except CowherdError as error:
        out("")
        return _complain(error, program, command)
    except OSError as error:
        return _complain(error_of_host(error), program, command)
    return code


def _carried_out(command: str, run: Callable[[Arguments], int], arguments: Arguments) -> int:
    """Carries a command out, and logs it if it may change an image that is there."""
    if command not in _LOGGED:
        return run(arguments)
    from cowherd.cli.logged import log_command

    with log_command("cowherd-img", command, arguments.operands[:1] if command in _NAMING_FIRST else ()) as outcome:
        outcome.exit_code = run(arguments)
    return outcome.exit_code


def _warn_of_merges(words: list[str], program: str) -> None:
    """Warns of an unfinished merge, whose journal lies beside its base: until its end, the base's content means nothing."""
    for word in words:
        if not is_address(word) and os.path.lexists(f"{word}.merge"):
            problem = f"a merge into '{printable(word)}' runs or was interrupted, and only a part of it may be there"
            err(f"{program}: warning: {problem}; 'cowherd recover' ends an interrupted one\n")


def _complain(error: CowherdError, program: str, command: str) -> int:
    sys.stdout.flush()
    prefix = program
    if isinstance(error, UsageError) and error.by_getopt and command:
        prefix = f"{program} {command}"
    err(f"{prefix}: {_message(error)}\n")
    if isinstance(error, CommandFailed) and error.further:
        err(f"{prefix}: {error.further}\n")
    if isinstance(error, UsageError):
        err(f"Try '{program} {command + ' ' if command else ''}--help' for more info\n")
    # qemu-img has no exit code 2 for a request that makes no sense; where 2 means something, the command says so itself.
    return error.exit_code if isinstance(error, CommandFailed) or error.exit_code == 3 else 1


def _message(error: CowherdError) -> str:
    from cowherd.cli.img.messages import explain

    return explain(error)


def _standard_option(words: list[str], program: str) -> int:
    """Handles the options that may come before the command: --help, --version, --trace."""
    from cowherd.cli.img.options import Option, Syntax, parse

    syntax = Syntax(program, "", (Option("version", "V"), Option("trace", "T", "TRACE")), (), ())
    own, rest = words[:1], words[1:]
    if own[0] in ("-T", "--trace") and rest:
        own.append(rest.pop(0))
    try:
        arguments = parse(syntax, own)
    except HelpWanted:
        out(_overview(program))
        return 0
    except UsageError as error:
        return _complain(error, program, "")
    if arguments.flag("version"):
        from cowherd.cli.img.version import version_text

        out(version_text(program))
        return 0
    err(f"{program}: warning: tracing is not there; --trace is ignored\n")
    return _dispatch(rest, program) if rest else 0


def _overview(program: str) -> str:
    lines = [f"  {name} - {summary}" for name, summary in COMMANDS.items()]
    return (
        "QEMU disk image utility with a guard: a drop-in for qemu-img.  Usage:\n\n"
        f"  {program} [standard options] COMMAND [--help | command options]\n\n"
        "Standard options:\n"
        "  -h, --help\n     display this help and exit\n"
        "  -V, --version\n     display version info and exit\n"
        "  -T, --trace TRACE\n     accepted for qemu-img's sake, and ignored\n\n"
        f"Commands ({program} COMMAND --help tells more, with examples):\n\n" + "\n".join(lines) + "\n\n"
        "Supported image formats: qcow2 raw\n\n"
        "A change that dependents of an image would see is refused with exit code 3; --break-dependents makes it all the same.\n"
    )


def program() -> NoReturn:
    """Runs the installed program."""
    from cowherd.cli import entry

    entry.img(main)


if __name__ == "__main__":
    program()
