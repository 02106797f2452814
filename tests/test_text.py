"""Printing names that come from outside."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.text import command_line, printable


def test_plain_names_are_printed_as_they_are():
    assert printable("größe/映像.qcow2") == "größe/映像.qcow2"
    assert printable(b"a b") == "a b"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\nb", "a\\x0ab"),
        (b"\xff.img", "\\xff.img"),
        ("\u202egnp", "\\u202egnp"),
        ("\x7f", "\\x7f"),
    ],
)
def test_what_a_terminal_would_act_upon_is_escaped(name: str | bytes, shown: str):
    assert printable(name) == shown


@given(st.binary())
def test_any_name_can_be_printed(name: bytes):
    shown = printable(name)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert printable(os.fsdecode(name)) == shown


@pytest.mark.parametrize(
    "words", [["a b", "it's", "母盘", "$(x)", ""], ["a\nb", "\x1b[31m'\\", os.fsdecode(b"\xff9"), "\u202egnp"]]
)
def test_a_command_line_can_be_read_and_pasted(words: list[str]):
    line = command_line(words)
    assert line.isprintable()
    pasted = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], stdout=subprocess.PIPE, check=True)
    assert pasted.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
