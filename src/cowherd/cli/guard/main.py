"""Entry point of `cowherd`: finds the subcommand, imports only its module, and turns errors into messages and exit codes."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time

from cowherd import notes
from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.logged import CHANGING, run_logged
from cowherd.cli.guard.looked import said_in_full, told
from cowherd.cli.guard.output import Report, as_lines, error_report, quiet, reported, say, show, with_losses
from cowherd.cli.guard.usage import UsageError, no_such_command
from cowherd.herd.lineage.book.notes import noting_looks
from cowherd.storage.losses import gathering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

GROUPS = {
    "look": {
        "status": "say of each base whether it is whole, worst first",
        "tree": "show the herd: bases, the overlays under them, and how each is",
        "show": "show all that is known of an image",
        "doctor": "say everything that is wrong, worst first, each with its remedy",
        "verify": "check seals and bindings along whole chains",
        "impact": "say which overlays a changed base hits, and where",
        "ps": "show what runs on which images, and where memory and disk part",
        "report": "write one HTML page about a herd",
        "inspect": "say whether an image from a stranger may be used",
        "log": "show what cowherd did to an image",
        "gc": "list what a herd could do without, and what each would free",
    },
    "keep bases whole": {
        "seal": "record what a base holds, and protect its file",
        "unseal": "give up a seal",
        "bind": "make overlays that others made know what they stand on",
        "watch": "notice writes to sealed images, and say who does it to whom",
        "push": "send an image to an image service, with what it stands on",
        "pull": "fetch an image from an image service with its chain, verified",
        "images": "list the images of an image service",
        "hook": "have libvirt check each machine's images before it starts",
        "run": "start QEMU, if its images stand on what they were made on",
    },
    "put right": {
        "repair": "bring a changed base back, or keep the change from its overlays",
        "recover": "finish or take back merges that were interrupted",
        "trash": "show what was deleted, bring it back, or remove it for good",
    },
    "work with overlays": {
        "clone": "make an overlay that knows what it stands on",
        "merge": "put an overlay's content into its base, and spare its siblings",
        "promote": "freeze a machine's disk as a sealed base",
        "flatten": "make an overlay stand alone",
        "retarget": "make overlays stand on another base, with their content kept",
    },
    "put in order": {
        "move": "move an image with all that names it; find bases moved by hand",
        "rename": "give an image another name",
        "delete": "move images that nothing needs to the trash",
        "herd": "name the directories in which herds lie, for every command",
    },
    "give out": {
        "serve": "answer OpenStack's Image API over stores that keep images whole",
    },
}
ROOMS = {
    "look": "look",
    "keep bases whole": "bases",
    "put right": "repairs",
    "work with overlays": "overlays",
    "put in order": "order",
    "give out": "serving",
}
"""The package of each group's commands."""

COMMANDS = {name: summary for group in GROUPS.values() for name, summary in group.items()}

EXIT_CODES = "0 fine, 1 the operation failed, 2 wrong usage, 3 refused because overlays would be harmed, 4 drift or damage found"

_EPILOG = f"""\
Exit codes: {EXIT_CODES}.

'cowherd help COMMAND' explains a command, with an example. What qemu-img does, cowherd-img does.
"""

_WITH_ARRAYS = ("flatten", "impact", "merge", "promote", "repair", "retarget", "seal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `cowherd` with `arguments` (those of the process by default) and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    notes.listeners[:] = [lambda note: say(f"cowherd: {note}")]
    options = [*itertools.takewhile(lambda word: word != "--", words)]
    quietly = "-q" in options or "--quiet" in options
    tokens = quiet.set(quietly), as_lines.set(_choice("--progress", options) == "json")
    try:
        colour = _choice("--color", options)
        return show(reported(lambda: _run(words)), as_json="--json" in options, colour=colour, quietly=quietly)
    finally:
        quiet.reset(tokens[0])
        as_lines.reset(tokens[1])


def module_of(command: str) -> str:
    """Returns the name of the module that has a command's `configure` and `run`."""
    room = next(ROOMS[group] for group, commands in GROUPS.items() if command in commands)
    return f"cowherd.cli.guard.{room}.{command}"


def _choice(option: str, options: Sequence[str]) -> str:
    """Returns the last choice of an option in a command line, which may be a wrong one; "auto" without it."""
    choice = "auto"
    for word, after in zip(options, [*options[1:], ""], strict=False):
        name, _, value = word.partition("=")
        if name == option:
            choice = value or after
    return choice


def _run(words: list[str]) -> Report:
    words = _asking_for_help(words)
    if not words or words[0].startswith("-"):
        return _without_command(words)
    if words[0] not in COMMANDS:
        raise no_such_command(words[0], COMMANDS)
    module = __import__(module_of(words[0]), fromlist=["run"])  # `importlib` would have to be loaded
    parser = Parser(words[0])
    module.configure(parser)
    arguments = parser.read(words[1:])
    if words[0] in _WITH_ARRAYS or getattr(arguments, "full", False):
        from cowherd.cli.memory import keep_freed_memory

        keep_freed_memory()
    with _rescanning() if arguments.rescan else contextlib.nullcontext(), noting_looks() as looks, gathering() as lost:
        began = time.monotonic()
        report = run_logged(words[0], arguments, module.run)
    assert isinstance(report, Report)
    report = told(report, looks) if words[0] in CHANGING else report
    if arguments.verbose:
        report = said_in_full(report, looks, time.monotonic() - began)
    return with_losses(report, lost) if lost else report


@contextlib.contextmanager
def _rescanning() -> Iterator[None]:
    from cowherd.herd.lineage.catalog.catalog import rescanning

    token = rescanning.set(True)
    try:
        yield
    finally:
        rescanning.reset(token)


def _asking_for_help(words: list[str]) -> list[str]:
    """Returns `help` and `help COMMAND` as the options that do the same."""
    return [*words[1:2], "--help"] if words[:1] == ["help"] else words


def _without_command(words: list[str]) -> Report:
    nothing_given = UsageError("which command?", "'cowherd help' lists them")
    if not words:
        return error_report(nothing_given)._replace(
            notes=(f"cowherd: {nothing_given.problem}\n\n{_parser().helping().format_help()}",)
        )
    command = next((word for word in words if word in COMMANDS), None)
    if command:
        raise UsageError("the command comes first", f"as in: cowherd {command} {words[0]}")
    if _parser().read([word for word in words if word != "--json"]).version:
        from cowherd.distribution import made_by

        return Report({"version": made_by()}, (made_by(),))
    raise nothing_given


def _parser() -> Parser:
    listed = "\n\n".join(
        "\n".join((f"{group}:", *(f"  {name:9} {summary}" for name, summary in commands.items())))
        for group, commands in GROUPS.items()
    )
    description = "Keeps every base image exactly as its overlays expect it."
    parser = Parser(None, description, f"{listed}\n\n{_EPILOG}")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    return parser


def program() -> NoReturn:
    """Runs the installed program."""
    from cowherd.cli import entry

    entry.guard(main)


if __name__ == "__main__":
    program()
