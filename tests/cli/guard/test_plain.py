"""Plain command lines are read as argparse reads them; all others are left to it."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.main import COMMANDS, module_of
from cowherd.cli.guard.plain import Argument, read_plain
from cowherd.cli.guard.usage import UsageError


def declared_by(command: str) -> Parser:
    parser = Parser(command)
    importlib.import_module(module_of(command)).configure(parser)
    return parser


PARSERS = {command: declared_by(command) for command in COMMANDS}
VALUES = st.sampled_from(["a.qcow2", "b", "", "list", "always", "json", "-", "--", "-x", "7", "a b", "ä", "x=y"])


def words_for(parser: Parser) -> st.SearchStrategy[list[str]]:
    """Command lines of the options that a parser has, in every spelling, values that fit and others, and operands."""
    names = [name for argument in parser._declared if argument.is_option for name in argument.names]
    choices = [choice for argument in parser._declared for choice in argument.how.get("choices", ())]
    value = VALUES | st.sampled_from(choices)
    option = st.sampled_from([*names, "--nothing", "-qv", "--js"])
    word = option.map(lambda name: [name]) | value.map(lambda one: [one]) | st.tuples(option, value).map(list)
    word |= st.tuples(option, value).map(lambda pair: [f"{pair[0]}={pair[1]}"])
    return st.lists(word, max_size=6).map(lambda several: [one for words in several for one in words])


@given(st.data())
def test_what_is_read_is_what_argparse_reads(data):
    command = data.draw(st.sampled_from(sorted(COMMANDS)))
    parser = PARSERS[command]
    words = data.draw(words_for(parser))
    plain = read_plain(parser._declared, words)
    if plain is not None:
        assert vars(plain) == vars(parser.helping().read(words))


@pytest.mark.parametrize(
    "line",
    [
        "tree",
        "tree a b --json",
        "tree --herd a --herd=b -q --color always",
        "verify --full a",
        "show a -v",
        "clone base new",
        "clone --no-seal base new --force",
        "herd list",
        "trash restore a b",
        "merge a --strategy fork",
    ],
)
def test_what_is_typed_every_day_needs_no_argparse(line):
    command, *words = line.split()
    plain = read_plain(PARSERS[command]._declared, words)
    assert plain is not None
    assert vars(plain) == vars(PARSERS[command].helping().read(words))


@pytest.mark.parametrize(
    "line",
    [
        *("clone base", "clone a b c", "show", "clone --size 10G a b", "trash burn"),
        *("tree --help", "tree -h", "tree --nothing", "tree --color blue", "tree --color", "tree -qv"),
        *("tree --json=x", "tree a --json b", "tree -- a", "tree --herd", "tree --herd -x"),
    ],
)
def test_what_is_unusual_or_wrong_is_left_to_argparse(line):
    command, *words = line.split()
    assert read_plain(PARSERS[command]._declared, words) is None


def test_a_wrong_line_is_told_of_as_before():
    with pytest.raises(UsageError, match=r"^the following arguments are required: OVERLAY; 'cowherd clone --help' explains it$"):
        PARSERS["clone"].read(["base"])


def test_operands_of_any_number_may_stand_before_and_behind_single_ones():
    declared = [Argument(("first",), {}), Argument(("some",), {"nargs": "*"}), Argument(("last",), {})]
    for words, some in ((["a", "z"], []), (["a", "b", "z"], ["b"]), (["a", "b", "c", "z"], ["b", "c"])):
        read = read_plain(declared, words)
        assert read is not None
        assert vars(read) == {"first": "a", "some": some, "last": "z"}
    assert read_plain(declared, ["a"]) is None
