"""The options of a command, declared once: parsing (with GNU getopt_long's rules) and --help are made from the table.

argparse is not used: it neither permutes, abbreviates and complains as getopt_long does, nor starts fast.
"""

from __future__ import annotations

from cowherd.cli.img.errors import HelpWanted, UsageError
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Option(NamedTuple):
    """One option. `argument` is the name of its argument ("" if it has none); `convert` turns that into a value at once."""

    long: str
    short: str = ""
    argument: str = ""
    help: str = ""
    convert: Callable[[str], int | str] = str

    @property
    def key(self) -> str:
        """The name under which `Arguments` holds the values."""
        return self.long or self.short


class Example(NamedTuple):
    """A working command line, and its purpose."""

    line: str
    purpose: str


class Syntax(NamedTuple):
    """One command: its name, what it does, options, operands (name, help) and examples.

    `numbers_are_operands` says that after the first operand, an argument such as -1G is an operand, too, and not an option.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    operands: tuple[tuple[str, str], ...]
    examples: tuple[Example, ...]
    notes: str = ""
    numbers_are_operands: bool = False


class Arguments:
    """The arguments of a command, and the `program` that it was called through. Options are found by their `key`."""

    def __init__(self, syntax: Syntax, program: str = "cowherd-img"):
        self.syntax, self.program = syntax, program
        self.operands: list[str] = []
        self._values: dict[str, list[int | str]] = {option.key: [] for option in syntax.options}

    def add(self, option: Option, text: str) -> None:
        """Records one more use of `option`."""
        self._values[option.key].append(option.convert(text) if option.argument else text)

    def flag(self, key: str) -> bool:
        """Returns whether the option was given."""
        return bool(self._values[key])

    def text(self, key: str) -> str | None:
        """Returns the option's last argument, or None."""
        values = self._values[key]
        return str(values[-1]) if values else None

    def texts(self, key: str) -> list[str]:
        """Returns the option's arguments in order."""
        return [str(value) for value in self._values[key]]

    def number(self, key: str) -> int | None:
        """Returns the last argument of an option whose `convert` returns numbers, or None."""
        values = self._values[key]
        return int(values[-1]) if values else None


def parse(syntax: Syntax, argv: Sequence[str], program: str = "cowherd-img") -> Arguments:
    """Returns the arguments in `argv` (without the command's name).

    Raises `UsageError` with getopt_long's messages, `HelpWanted` for --help, and the errors of an option's `convert`, each when
    its turn comes from left to right.
    """
    arguments = Arguments(syntax, program)
    options = (Option("help", "h", help="print this help and exit"), *syntax.options)
    pending = iter(argv)
    for word in pending:
        if word == "--":
            arguments.operands.extend(pending)
        elif not word.startswith("-") or word == "-" or _is_number(syntax, arguments, word):
            arguments.operands.append(word)
        else:
            used = _long(options, word, pending) if word.startswith("--") else _bundle(options, word, pending)
            for option, text in used:
                if option.long == "help":
                    raise HelpWanted
                arguments.add(option, text)
    return arguments


def _is_number(syntax: Syntax, arguments: Arguments, word: str) -> bool:
    return syntax.numbers_are_operands and bool(arguments.operands) and word[1:2].isdigit()


def _long(options: Sequence[Option], word: str, pending: Iterator[str]) -> Iterator[tuple[Option, str]]:
    name, given, text = word[2:].partition("=")
    option = _find_long(options, name)
    if given and not option.argument:
        raise UsageError(f"option '--{option.long}' doesn't allow an argument", by_getopt=True)
    if option.argument and not given:
        following = next(pending, None)
        if following is None:
            raise UsageError(f"option '--{option.long}' requires an argument", by_getopt=True)
        text = following
    yield option, text


def _find_long(options: Sequence[Option], name: str) -> Option:
    found = [option for option in options if option.long and option.long.startswith(name)]
    exact = [option for option in found if option.long == name]
    if not found:
        raise UsageError(f"unrecognized option '--{name}'", by_getopt=True)
    if len(found) > 1 and not exact:
        possible = " ".join(f"'--{option.long}'" for option in found)
        raise UsageError(f"option '--{name}' is ambiguous; possibilities: {possible}", by_getopt=True)
    return (exact or found)[0]


def _bundle(options: Sequence[Option], word: str, pending: Iterator[str]) -> Iterator[tuple[Option, str]]:
    for position, letter in enumerate(word[1:], start=2):
        option = next((option for option in options if option.short == letter), None)
        if option is None:
            raise UsageError(f"invalid option -- '{letter}'", by_getopt=True)
        if not option.argument:
            yield option, ""
            continue
        text = word[position:] or next(pending, None)
        if text is None:
            raise UsageError(f"option requires an argument -- '{letter}'", by_getopt=True)
        yield option, text
        return
