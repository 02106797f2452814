"""Parsing command lines from a table of options."""

from __future__ import annotations

import pytest

from cowherd.cli.img.common import BREAK_DEPENDENTS, FORMAT, OPTIONS, QUIET, number_between
from cowherd.cli.img.errors import CommandFailed, HelpWanted, UsageError
from cowherd.cli.img.options import Option, Syntax, parse

SYNTAX = Syntax(
    "x",
    "Does x",
    (QUIET, FORMAT, OPTIONS, BREAK_DEPENDENTS, Option("size", "s", "SIZE", "", number_between("size", 1, 9))),
    (),
    (),
)


def test_what_is_not_given_is_none():
    arguments = parse(SYNTAX, [])
    assert (arguments.flag("quiet"), arguments.text("format"), arguments.texts("options"), arguments.number("size")) == (
        False,
        None,
        [],
        None,
    )


def test_the_last_of_several_counts_and_lists_keep_all():
    arguments = parse(SYNTAX, ["-f", "a", "-ob=1", "--format=c", "--options", "d=2"])
    assert (arguments.text("format"), arguments.texts("options")) == ("c", ["b=1", "d=2"])


def test_a_lone_dash_is_an_operand_and_two_end_the_options():
    assert parse(SYNTAX, ["-", "-q", "--", "-q", "--"]).operands == ["-", "-q", "--"]


def test_complaints_come_from_left_to_right():
    with pytest.raises(CommandFailed, match="Must be between 1 and 9"):
        parse(SYNTAX, ["-s", "10", "-x"])
    with pytest.raises(UsageError, match="invalid option -- 'x'"):
        parse(SYNTAX, ["-x", "-s", "10"])
    with pytest.raises(HelpWanted):
        parse(SYNTAX, ["-qh", "-x"])


def test_numbers_may_be_operands():
    numeric = SYNTAX._replace(numbers_are_operands=True)
    assert parse(numeric, ["file", "-1G", "-q"]).operands == ["file", "-1G"]
    with pytest.raises(UsageError):
        parse(numeric, ["-1G", "file"])


@pytest.mark.parametrize("text", ["", ",a=1", "a=1,", "a=1,,,"])
def test_an_option_list_that_can_not_be_joined_is_refused(text):
    with pytest.raises(CommandFailed, match="Invalid option list"):
        parse(SYNTAX, ["-o", text])
