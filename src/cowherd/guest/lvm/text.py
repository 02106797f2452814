"""The text that describes a volume group in LVM2's metadata: sections of keys with numbers, strings and lists.

Source: LVM2, libdm/libdm-config.c (the grammar) and lib/format_text (what is written in it).
"""

from __future__ import annotations

import os
import re
from typing import TypeAlias

from cowherd.guest.source import Malformed

Value: TypeAlias = "int | str | list[int | str]"
Section: TypeAlias = "dict[str, Value | Section]"

LONGEST = 16 << 20
"""Bytes of the longest text that is read."""
_DEEPEST = 8  # sections in each other; LVM needs four, and the parser calls itself for each
# At most 18 digits, which always fit 64 bits. A word that only begins with digits is a name ("2024-backup").
_TOKEN = re.compile(
    r"""(?: [ \t\r\n]+ | \#[^\n]* )*
    (?: (?P<number>-?[0-9]{1,18}(?![A-Za-z0-9_.+-])) | (?P<name>[A-Za-z0-9_.+-]+)
      | "(?P<string>(?:[^"\\\n]|\\.)*)" | (?P<mark>[{}=\[\],]) | (?P<end>\Z) )""",
    re.VERBOSE,
)


def parse(data: bytes) -> Section:
    """Returns the outermost section. Raises `Malformed` for a text that LVM would not write."""
    if len(data) > LONGEST:
        raise Malformed("its LVM metadata are longer than 16 MiB")
    return _Parser(os.fsdecode(data.rstrip(b"\0"))).section(0)


def text_of(section: Section, key: str) -> str:
    """Returns the string under a key. Raises `Malformed` if there is none."""
    value = section.get(key)
    if not isinstance(value, str):
        raise Malformed(f"its LVM metadata lack {key}")
    return value


def number_of(section: Section, key: str, least: int = 0) -> int:
    """Returns the number under a key. Raises `Malformed` if there is none, or one less than `least`."""
    value = section.get(key)
    if not isinstance(value, int) or value < least:
        raise Malformed(f"its LVM metadata lack a sensible {key}")
    return value


def list_of(section: Section, key: str) -> list[int | str]:
    """Returns the list under a key. Raises `Malformed` if there is none."""
    value = section.get(key)
    if not isinstance(value, list):
        raise Malformed(f"its LVM metadata lack {key}")
    return value


def sections_of(section: Section, key: str) -> dict[str, Section]:
    """Returns the sections inside of the section `key`, by name; none if there is no such section.

    Raises `Malformed` if `key` is no section.
    """
    inner = section.get(key, {})
    if not isinstance(inner, dict):
        raise Malformed(f"{key} is no section of its LVM metadata")
    return {name: value for name, value in inner.items() if isinstance(value, dict)}


class _Parser:
    """One pass over the tokens of a text."""

    def __init__(self, text: str):
        self._text, self._at = text, 0
        self._kind, self._value = "", ""
        self._advance()

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise Malformed("its LVM metadata are damaged")
        self._at = match.end()
        self._kind = match.lastgroup or ""
        self._value = match[self._kind]

    def _take(self, kind: str, value: str | None = None) -> str:
        found = self._value
        if self._kind != kind or (value is not None and found != value):
            raise Malformed("its LVM metadata are damaged")
        self._advance()
        return found

    def _is(self, mark: str) -> bool:
        return self._kind == "mark" and self._value == mark

    def section(self, depth: int) -> Section:
        """Reads keys up to the end of the section. Raises `Malformed` for a damaged text."""
        found: Section = {}
        # A volume may be called 2024, so that a section's name can look like a number.
        while self._kind in ("name", "number"):
            name = self._take(self._kind)
            if name in found:
                raise Malformed("its LVM metadata say something twice")
            if self._is("="):
                self._advance()
                found[name] = self._anything()
            elif depth < _DEEPEST:
                self._take("mark", "{")
                found[name] = self.section(depth + 1)
                self._take("mark", "}")
            else:
                raise Malformed("its LVM metadata are nested too deeply")
        if not depth:
            self._take("end")
        return found

    def _anything(self) -> Value:
        if not self._is("["):
            return self._single()
        self._advance()
        values: list[int | str] = []
        while not self._is("]"):
            values.append(self._single())
            if not self._is("]"):
                self._take("mark", ",")
        self._advance()
        return values

    def _single(self) -> int | str:
        if self._kind == "number":
            return int(self._take("number"))
        return re.sub(r"\\(.)", r"\1", self._take("string"))
