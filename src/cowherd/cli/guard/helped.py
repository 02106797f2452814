"""The parser of a command line that is not plain: argparse's, with its help and its errors."""

from __future__ import annotations

import argparse
import itertools
import re
from typing import TYPE_CHECKING

from cowherd.cli.guard.screen import terminal_columns
from cowherd.cli.guard.usage import UsageError, no_such_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import NoReturn

    from cowherd.cli.guard.plain import Argument

_ITEM = r"[a-z][\w-]*(?: [A-Z]+)? {2,}|[a-z][\w-]*: "


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Lays paragraphs, lists and examples out for the terminal's width.

    It does without argparse's own look at that width, which imports shutil with all archive formats.
    """

    def __init__(self, prog: str):
        super().__init__(prog, width=terminal_columns() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for block in text.split("\n\n") for line in [*_filled(block, width), ""]).rstrip("\n")


class HelpingParser(argparse.ArgumentParser):
    """A parser whose errors are `UsageError`. `command` is the subcommand's name, None for `cowherd` itself."""

    def __init__(self, command: str | None, description: str | None, epilog: str | None, declared: Iterable[Argument]):
        super().__init__(
            prog=f"cowherd {command}" if command else "cowherd",
            usage=None if command else "cowherd COMMAND [ARGUMENT ...]",
            description=description,
            epilog=epilog,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        groups: dict[str, argparse._ArgumentGroup] = {}
        for argument in declared:
            place: argparse._ActionsContainer = self
            if argument.group is not None:
                place = groups.get(argument.group) or groups.setdefault(argument.group, self.add_argument_group(argument.group))
            place.add_argument(*argument.names, **argument.how)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Returns the arguments in a command line. Raises `UsageError`, for an unknown option before a missing argument."""
        for word in itertools.takewhile(lambda word: word != "--", words):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                raise no_such_option(name, self._option_string_actions, self.prog)
        return self.parse_args(words)

    def error(self, message: str) -> NoReturn:
        """Raises `UsageError`."""
        raise UsageError(message, f"'{self.prog} --help' explains it")


def items(block: str) -> list[tuple[str, str]]:
    """Returns the items of a list as (first words, text), and running text as one with "" for the first words.

    An item begins with a word and a colon, or with words and a gap, which stay at the end of its first words.
    """
    found: list[tuple[str, str]] = []
    for line in block.splitlines():
        item = re.match(_ITEM, line)
        if item:
            found.append((item[0], line[item.end() :]))
        elif found:
            lead, text = found[-1]
            found[-1] = (lead, f"{text} {line.strip()}")
        else:
            found.append(("", line))
    return found


def _filled(block: str, width: int) -> Iterator[str]:
    """Yields the lines of a paragraph or a list, filled to `width`. Lines under a heading, as examples are, stay as they are."""
    if ":\n  " in block:
        yield from block.splitlines()
        return
    import textwrap

    for lead, text in items(block):
        hanging = " " * (len(lead) if lead.endswith("  ") else 4 if lead else 0)
        yield from textwrap.wrap(
            text, width, initial_indent=lead, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
        )
