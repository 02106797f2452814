"""Reads plain command lines as argparse would, which takes longer to load than a command that only looks takes to run.

Plain is a line of options by their full names with a value each, and of operands that stand together. All others, and all that
are wrong, are left to argparse.
"""

from __future__ import annotations

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any
else:
    import sys

    Namespace = type(sys.implementation)  # types.SimpleNamespace, which argparse's own class is in all but its name

_ACTIONS = ("store", "store_true", "append")
_SEVERAL = ("?", "*", "+")


class Argument(NamedTuple):
    """An argument as `ArgumentParser.add_argument` takes it, with the title of its group in the help, None without one."""

    names: tuple[str, ...]
    how: dict[str, Any]
    group: str | None = None

    @property
    def is_option(self) -> bool:
        """Whether its names are those of an option."""
        return self.names[0].startswith("-")

    @property
    def place(self) -> str:
        """The attribute that gets its value."""
        name = next((name for name in self.names if name.startswith("--")), self.names[0])
        return str(self.how.get("dest") or (name.lstrip("-").replace("-", "_") if self.is_option else name))

    @property
    def is_flag(self) -> bool:
        """Whether it is an option without a value."""
        return self.how.get("action") == "store_true"

    @property
    def default(self) -> Any:
        """What it is where the command line does not have it."""
        return self.how.get("default", False if self.is_flag else None)

    def takes(self, word: str) -> bool:
        """Returns whether a word can be its value as it stands."""
        return "type" not in self.how and word in self.how.get("choices", (word,))


class _NotPlain(Exception):
    """The command line is left to argparse."""


def read_plain(declared: Sequence[Argument], words: Sequence[str]) -> Namespace | None:
    """Returns the arguments in a command line, with defaults for those that it does not have; None if it is not plain."""
    try:
        given, operands = _options_in(declared, words)
        given |= _operands_in([argument for argument in declared if not argument.is_option], operands)
    except _NotPlain:
        return None
    if any(argument.how.get("required") and argument.place not in given for argument in declared):
        return None
    return Namespace(**{argument.place: argument.default for argument in declared} | given)


def _options_in(declared: Sequence[Argument], words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the values of the options in a command line, and its operands."""
    options = {name: argument for argument in declared if argument.is_option for name in argument.names}
    given: dict[str, Any] = {}
    operands: list[str] = []
    left = iter(words)
    before = None
    for word in left:
        if not word.startswith("-"):
            if operands and before != "operand":
                raise _NotPlain  # which of them argparse accepts depends on Python's version
            operands.append(word)
            before = "operand"
            continue
        name, equals, value = word.partition("=")
        option = options.get(name)
        if option is None or "nargs" in option.how or option.how.get("action", "store") not in _ACTIONS:
            raise _NotPlain
        _give(given, option, None if option.is_flag and not equals else value if equals else next(left, ""))
        before = "option"
    return given, operands


def _give(given: dict[str, Any], option: Argument, value: str | None) -> None:
    if value is None:
        given[option.place] = True
    elif option.is_flag or not value or value.startswith("-") or not option.takes(value):
        raise _NotPlain
    elif option.how.get("action") == "append":
        given[option.place] = [*(given.get(option.place) or option.default or ()), value]
    else:
        given[option.place] = value


def _operands_in(declared: Sequence[Argument], words: Sequence[str]) -> dict[str, Any]:
    """Returns the values of operands. Each takes as many words as it may that those behind it can do without."""
    given: dict[str, Any] = {}
    spare = len(words) - sum(map(_least, declared))
    if spare < 0:
        raise _NotPlain
    left = iter(words)
    for operand in declared:
        more = min(spare, _most(operand, len(words)) - _least(operand))
        spare -= more
        given[operand.place] = _value(operand, [next(left) for _ in range(_least(operand) + more)])
    if spare:
        raise _NotPlain
    return given


def _least(operand: Argument) -> int:
    return 0 if operand.how.get("nargs") in ("?", "*") else 1


def _most(operand: Argument, number: int) -> int:
    """Returns how many of a number of words, one at least, the operand may take."""
    return max(number, 1) if operand.how.get("nargs") in ("*", "+") else 1


def _value(operand: Argument, words: list[str]) -> Any:
    number = operand.how.get("nargs")
    if not all(map(operand.takes, words)) or number not in (None, *_SEVERAL) or "action" in operand.how:
        raise _NotPlain
    if not words:
        return operand.default if operand.default is not None or number == "?" else []
    return words if number in ("*", "+") else words[0]
