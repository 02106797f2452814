"""Printing names and reading sizes."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.text import parse_size, printable


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
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("10b", 10),
        ("64k", 65536),
        ("64K", 65536),
        ("1.5G", 3 << 29),
        ("0.5M", 1 << 19),
        ("2T", 2 << 40),
        ("1P", 1 << 50),
        ("7E", 7 << 60),
        ("0x10", 16),
        ("0x10k", 16384),
        ("010", 10),
        (" 1M ", 1 << 20),
    ],
)
def test_sizes_have_the_suffixes_of_qemu(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5", "1.b", "1KB", "1 M", "0x", "1e3", "nan", "1.5b", "0x1.5k", "٣", "\n"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a"):
        parse_size(text)


@pytest.mark.qemu
@pytest.mark.parametrize("text", ["1.1k", "1.3M", "0.7G", "2.25T", "1.000001M", "0.3k"])
def test_fractions_are_rounded_as_qemu_img_does(qemu_img, tmp_path, text: str):
    qemu_img("create", "-q", "-f", "raw", tmp_path / "disk", text)
    assert (tmp_path / "disk").stat().st_size == -(-parse_size(text) // 512) * 512


@given(st.integers(0, 2**60), st.sampled_from("bkKmMgGtTpPeE"))
def test_a_whole_number_is_multiplied_exactly(number: int, suffix: str):
    assert parse_size(f"{number}{suffix}") == number * 1024 ** "BKMGTPE".index(suffix.upper())
