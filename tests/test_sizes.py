"""Sizes as QEMU reads and prints them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.sizes import SizeError, SizeRangeError, human_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1k", 1024),
        ("1K", 1024),
        ("1.5G", 3 << 29),
        ("010", 10),
        ("0x1b", 27),
        (" +5b", 5),
        ("1.", 1),
        ("1.0", 1),
        (".5k", 512),
        ("0.0005k", 1),
        ("15.999999E", round(15.999999 * 2**60)),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_a_size_is_a_number_with_a_suffix(text, size):
    assert parse_size(text) == pytest.approx(size, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", ".", "k", "1x", "1kk", "0x", "0x10k", "0x1.8", "1e3", "nan", "1.3", "1_0", "\u0663", "1 k", "--1"]
)
def test_anything_else_is_not_a_size(text):
    with pytest.raises(SizeError):
        parse_size(text)


@pytest.mark.parametrize("text", ["-1", "-0", "16E", "18446744073709551616", "9" * 5000, "0x" + "f" * 5000])
def test_sizes_out_of_range_are_told_apart(text):
    with pytest.raises(SizeRangeError):
        parse_size(text)


@given(st.text())
def test_no_text_makes_it_fail_otherwise(text):
    with contextlib.suppress(SizeError):
        assert 0 <= parse_size(text) < 2**64


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1, "1 B"), (999, "999 B"), (1000, "0.977 KiB"), (1535, "1.5 KiB"), (10 << 20, "10 MiB"), (2**63, "8 EiB")],
)
def test_a_size_is_printed_with_three_digits(size, text):
    assert human_size(size) == text
