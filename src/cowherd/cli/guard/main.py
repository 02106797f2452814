"""Entry point of `cowherd`: finds the subcommand, imports only its module, and turns errors into messages and exit codes."""

from __future__ import annotations

import contextlib
import itertools
import sys

from cowherd import notes
from cowherd.cli.guard.arguments import Parser, UsageError
from cowherd.cli.guard.looked import told
from cowherd.cli.guard.output import Report, error_report, show, with_losses
from cowherd.errors import CowherdError, error_of_host
from cowherd.herd.lineage.book.notes import noting_looks
from cowherd.storage.losses import gathering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

COMMANDS = {
    "tree": "show the herd: bases, the overlays under them, and how each is",
    "clone": "make an overlay that knows what it stands on",
    "seal": "record what a base holds, and protect its file",
    "unseal": "give up a seal",
    "verify": "check seals and bindings along whole chains",
    "impact": "say which overlays a changed base hits, and where",
    "inspect": "say whether an image from a stranger may be used",
    "repair": "bring a changed base back, or keep the change from its overlays",
    "merge": "put an overlay's content into its base, and keep it from the other overlays",
    "recover": "finish or take back merges that were interrupted",
    "doctor": "say everything that is wrong in a herd, worst first, each with its remedy",
    "bind": "make overlays that others made know what they stand on",
    "move": "move an image with all that names it; find bases that were moved by hand",
    "rename": "give an image another name",
    "delete": "move images that nothing needs to the trash",
    "trash": "show what was deleted, bring it back, or remove it for good",
    "gc": "list what a herd could do without, and what each would free",
    "watch": "notice writes to sealed images as they happen, and say who does it and whom it hits",
    "ps": "show what runs on which images, and where memory and disk part",
    "report": "write one HTML page about a herd",
    "promote": "freeze a machine's disk as a sealed base",
    "flatten": "make an overlay stand alone",
    "retarget": "make overlays stand on another base, with their content kept",
    "herd": "name the directories in which herds lie, so that every command looks there",
    "run": "start QEMU, if its images stand on what they were made on",
    "hook": "have libvirt check each machine's images before it starts",
}

EXIT_CODES = "0 fine, 1 the operation failed, 2 wrong usage, 3 refused because overlays would be harmed, 4 drift or damage found"

_EPILOG = f"""\
Exit codes: {EXIT_CODES}.

'cowherd COMMAND --help' explains a command, with an example. The engine's own commands are in cowherd-img.
"""

_CHANGING = frozenset(
    (
        *("bind", "clone", "delete", "flatten", "gc", "merge", "move", "promote"),
        *("recover", "rename", "repair", "retarget", "seal", "trash", "unseal"),
    )
)
_WITH_ARRAYS = ("flatten", "impact", "merge", "promote", "repair", "retarget", "seal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `cowherd` with `arguments` (those of the process by default) and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    notes.listeners[:] = [lambda note: print(f"cowherd: {note}", file=sys.stderr)]
    as_json = "--json" in itertools.takewhile(lambda word: word != "--", words)
    return show(_outcome(words), as_json=as_json)


def _outcome(words: list[str]) -> Report:
    try:
        return _run(words)
    except CowherdError as error:
        return error_report(error)
    except OSError as error:
        return error_report(error_of_host(error))


def _run(words: list[str]) -> Report:
    if not words or words[0].startswith("-"):
        parser = _parser()
        if not words:
            raise UsageError("which command?", parser.format_help())
        if parser.parse_args(words).version:
            from cowherd.distribution import made_by

            return Report({"version": made_by()}, (made_by(),))
        raise UsageError("a command comes first", parser.format_usage())
    if words[0] not in COMMANDS:
        raise UsageError(f"there is no command {words[0]!a}", _parser().format_help())
    module = __import__(f"cowherd.cli.guard.{words[0]}", fromlist=["run"])  # `importlib` would have to be loaded
    parser = Parser(words[0])
    module.configure(parser)
    arguments = parser.parse_args(words[1:])
    if words[0] in _WITH_ARRAYS or getattr(arguments, "full", False):
        from cowherd.cli.memory import keep_freed_memory

        keep_freed_memory()
    with _rescanning() if arguments.rescan else contextlib.nullcontext(), noting_looks() as looks, gathering() as lost:
        report = module.run(arguments)
    assert isinstance(report, Report)
    report = told(report, looks) if words[0] in _CHANGING else report
    return with_losses(report, lost) if lost else report


@contextlib.contextmanager
def _rescanning() -> Iterator[None]:
    from cowherd.herd.lineage.catalog.catalog import rescanning

    token = rescanning.set(True)
    try:
        yield
    finally:
        rescanning.reset(token)


def _parser() -> Parser:
    listed = "\n".join(f"  {name:8} {summary}" for name, summary in COMMANDS.items())
    description = "Keeps every base image exactly as its overlays expect it."
    parser = Parser(None, description, f"commands:\n{listed}\n\n{_EPILOG}")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    return parser


def program() -> NoReturn:
    """Runs the installed program."""
    from cowherd.cli import entry

    entry.guard(main)


if __name__ == "__main__":
    program()
