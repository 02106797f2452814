"""Arguments that several subcommands share."""

from __future__ import annotations

from cowherd.cli.guard.plain import Argument, read_plain
from cowherd.cli.guard.screen import COLOURS
from cowherd.sizes import SizeError, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from cowherd.cli.guard.helped import HelpingParser

_LEVELS = ("recorded", "readonly", "immutable")  # as in `storage.protection`, which takes longer to load than it takes to parse
_SECONDS_IN = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECONDS = 10 * 365 * 86400.0


class Group:
    """Arguments that stand under a title of their own in --help."""

    def __init__(self, title: str, declared: list[Argument]):
        self._title, self._declared = title, declared

    def add_argument(self, *names: str, **how: Any) -> None:
        """Adds an argument, as `argparse.ArgumentParser.add_argument`."""
        self._declared.append(Argument(names, how, self._title))


class Parser:
    """The arguments of a command, declared as for argparse. `command` is the subcommand's name, None for `cowherd` itself.

    Subcommands get --json, --color, --progress, --quiet, --verbose and --rescan. argparse is only loaded where it is needed.
    """

    def __init__(self, command: str | None, description: str | None = None, epilog: str | None = None):
        self._command, self._description, self._epilog = command, description, epilog
        self._declared: list[Argument] = []
        if command:
            self.add_argument("--json", action="store_true", help="print one JSON document instead of text, errors included")
            self.add_argument(
                "--color", choices=COLOURS, default="auto", help="paint states (auto: on a terminal, without NO_COLOR)"
            )
            self.add_argument(
                "--progress",
                choices=("auto", "json"),
                default="auto",
                help="how standard error tells how far work is (auto: on a terminal; json: lines of JSON, errors too)",
            )
            self.add_argument("-q", "--quiet", action="store_true", help="print no text and no progress, only what went wrong")
            self.add_argument(
                "-v", "--verbose", action="store_true", help="also say where overlays were looked for, and how long it took"
            )
            self.add_argument("--rescan", action="store_true", help="read every header anew, also where the catalog knows it")

    def add_argument(self, *names: str, **how: Any) -> None:
        """Adds an argument, as `argparse.ArgumentParser.add_argument`."""
        self._declared.append(Argument(names, how))

    def add_argument_group(self, title: str) -> Group:
        """Returns a group to which arguments can be added."""
        return Group(title, self._declared)

    def explain(self, description: str, example: str) -> None:
        """Sets the description of the command in --help, and the example under the options."""
        self._description = description
        self._epilog = "example:\n" + "\n".join(f"  {line}" for line in example.splitlines())

    def add_herd(self) -> None:
        """Adds --herd, for commands that look for an image's relatives."""
        self.add_argument(
            "--herd",
            action="append",
            default=[],
            metavar="DIR",
            help="also look for relatives under DIR, and not just in the image's own directory (may be repeated)",
        )

    def add_donors(self, help: str) -> None:
        """Adds --from, for commands that read old content from other images; `help` says what for."""
        self.add_argument("--from", dest="donors", metavar="DONOR", action="append", default=[], help=help)

    def add_dry_run(self, what: str = "what would be done") -> None:
        """Adds --dry-run, which says `what` and changes nothing."""
        self.add_argument("--dry-run", action="store_true", help=f"say {what}, and change nothing")

    def add_all(self) -> None:
        """Adds --all, for commands that say once what is true of many images, and leave out what is longest."""
        self.add_argument("--all", action="store_true", help="name each image in a line of its own, and leave nothing out")

    def add_service(self) -> None:
        """Adds --to, for commands that talk to an image service."""
        self.add_argument(
            "--to",
            metavar="URL",
            help="the service, as in http://HOST:9292 or unix:PATH (default: COWHERD_SERVICE, or OpenStack's OS_* variables and "
            "clouds.yaml)",
        )

    def add_level(self, file: str, default: str) -> None:
        """Adds --level, for commands that protect a file."""
        self.add_argument(
            "--level", choices=_LEVELS, default=default, help=f"how well the {file} is to be protected (default: {default})"
        )

    def add_ignore_unreadable(self) -> None:
        """Adds --ignore-unreadable, for commands that must know every overlay."""
        self.add_argument(
            "--ignore-unreadable",
            action="store_true",
            help="go on although files of the herd can't be read: an overlay among them may then see other content",
        )

    def add_update_domains(self) -> None:
        """Adds --update-domains, for commands that rename an image that may be a libvirt domain's disk."""
        self.add_argument(
            "--update-domains",
            action="store_true",
            help="have libvirt redefine the domains that name the disk; without it they are in the way (exit code 3)",
        )

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Returns the arguments in a command line. Raises `UsageError`, for an unknown option before a missing argument."""
        plain = read_plain(self._declared, words)
        return self.helping().read(words) if plain is None else plain

    def helping(self) -> HelpingParser:
        """Returns argparse's parser of the same arguments, which also has their help."""
        from cowherd.cli.guard.helped import HelpingParser

        return HelpingParser(self._command, self._description, self._epilog, self._declared)


def duration_argument(text: str) -> float:
    """Reads a time such as "90s", "30m", "12h" or "7d"; a number alone means seconds. Returns seconds."""
    factor = _SECONDS_IN.get(text[-1:], 0)
    try:
        seconds = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < _LONGEST_SECONDS:
        raise _wrong(f"{text!a} is no time; write it as in 90s, 30m, 12h or 7d")
    return seconds


def size_argument(text: str) -> int:
    """Reads a size as QEMU's tools do, as in "20G"."""
    try:
        size = parse_size(text)
    except SizeError as error:
        raise _wrong(f"{text!a} is no size; write it as in 512M or 20G") from error
    if size >= 1 << 63:
        raise _wrong(f"{text!a} is too large")
    return size


def _wrong(message: str) -> argparse.ArgumentTypeError:
    from argparse import ArgumentTypeError

    return ArgumentTypeError(message)
