"""Words for people: names that come from outside, made safe to print, and numbers of things."""

from __future__ import annotations

import os

from cowherd.paths import as_path
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cowherd.paths import PathName


def printable(name: str | bytes | os.PathLike[Any] | Url) -> str:
    r"""Returns `name` with control characters, terminal escapes and undecodable bytes written as \xNN or \uNNNN.

    Of an address, only what may be shown.
    """
    text = str(name) if isinstance(name, Url) else os.fsdecode(name)
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() else _escaped(ch) for ch in text)


def shown(path: PathName, here: str | None = None) -> str:
    """Returns a path, escaped, and relative to the current directory if it lies under it.

    `here` is the result of `current_directory()`; callers that show many paths pass it, so that it is looked up once.
    """
    name = os.fspath(path)
    if os.path.normpath(name) != name:
        name = os.fspath(as_path(name))
    here = current_directory() if here is None else here
    if name == here:
        return "."
    return printable(name.removeprefix(f"{here}/") if here and here != "/" else name)


def command_line(words: Iterable[str]) -> str:
    r"""Returns words as a shell reads them: what is pasted into bash, zsh or ksh runs with just these words.

    Names that can't be printed as they are stand in $'...', with their control characters as \xNN.
    """
    import shlex

    return " ".join(shlex.quote(word) if word.isprintable() else f"$'{''.join(map(_quoted, word))}'" for word in words)


def _quoted(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """Returns a number of things: "1 overlay", "2 overlays". `nouns` is the plural, where it is not `noun` with an "s"."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def overlays_depend(number: int) -> str:
    """Returns "1 overlay depends", "2 overlays depend"."""
    return counted(number, "overlay depends", "overlays depend")


def overlays_stand(number: int) -> str:
    """Returns "1 overlay stands", "2 overlays stand"."""
    return counted(number, "overlay stands", "overlays stand")


def current_directory() -> str:
    """Returns the path of the current directory, "" if that no longer exists."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def has_surrogates(text: str) -> bool:
    """Returns whether `text` holds surrogates (halves of characters), which JSON can express and no file name can hold."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def path_order(path: str) -> str:
    """Returns the sort key of a path. It sorts as `Path` does: the names in "dir" come before those in "dir.old"."""
    return path.replace("/", "\0")


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not valid UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
