"""What is the same is said once, with all names."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cowherd.cli.guard.groups import alike, amounts, expanded, named
from cowherd.text import counted

VMS = [f"vm{number:02}.qcow2" for number in range(1, 30)]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["web"], "web"),
        (["vm1", "vm2"], "vm1, vm2"),
        (VMS, "vm{01..29}.qcow2"),
        ([*VMS[:5], *VMS[8:]], "vm{01..05}.qcow2, vm{09..29}.qcow2"),
        (["vm8", "vm9", "vm10", "vm11"], "vm{8..11}"),
        (["vm08", "vm9", "vm10"], "vm08, vm9, vm10"),
        (["a/vm1.raw", "a/vm2.raw", "b/vm3.raw"], "a/vm1.raw, a/vm2.raw, b/vm3.raw"),
        (["1", "2", "3"], "{1..3}"),
        ([*"abcdefg"], "a, b, c, d and 3 more"),
    ],
)
def test_numbered_names_are_written_as_a_shell_expands_them(names, text):
    assert named(names) == text


def test_all_names_are_written_where_that_is_asked_for():
    assert named([*"abcdefg"], None) == "a, b, c, d, e, f, g"


@pytest.mark.parametrize("shell", ["bash", "zsh", "ksh"])
def test_a_shell_reads_the_words_as_the_names(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    names = [*(f"/srv/{{a}}$x's/{name}" for name in VMS), "/a b", "1", "2", "3", *(f"-{number}\x1b" for number in range(3))]
    done = subprocess.run(
        [shell, "-c", f"printf '%s\\0' {' '.join(expanded(names))}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\0")[:-1] == names


def test_equal_things_stand_together_in_the_order_of_the_first():
    assert alike([3, 1, 13, 2, 11], lambda number: number % 10) == [[3, 13], [1, 11], [2]]


def test_equal_amounts_are_one_line_and_the_largest_comes_first():
    sizes = [("a", 1 << 20), *((name, 3 << 20) for name in VMS), ("b", 1 << 20)]
    assert amounts(sizes, 6) == [("3 MiB", "vm{01..29}.qcow2"), ("1 MiB", "a, b")]


def test_beyond_the_largest_amounts_one_line_stands_for_the_rest():
    sizes = [(f"vm{size}", size << 20) for size in range(1, 30)]
    assert amounts(sizes, 2) == [
        ("29 MiB", "vm29"),
        ("28 MiB", "vm28"),
        ("at most 27 MiB", "27 other overlays (--all names them)"),
    ]
    assert len(amounts(sizes, None)) == 29


@pytest.mark.parametrize(("number", "text"), [(0, "0 processes"), (1, "1 process"), (2, "2 processes")])
def test_one_is_singular(number, text):
    assert counted(number, "process", "processes") == text
