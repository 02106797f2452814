"""What --help offers is said once more on the command line, whose modules load without the jobs: it is what the jobs take."""

from __future__ import annotations

import pytest

from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.bases import seal
from cowherd.cli.guard.look import doctor as doctor_command
from cowherd.cli.guard.overlays import merge as merge_command
from cowherd.cli.guard.overlays import promote
from cowherd.herd.doctor.doctor import LONGEST_CHAIN
from cowherd.herd.merge.plan import KEEPS, STRATEGIES
from cowherd.storage.protection import Protection


def option(command, name: str):
    parser = Parser("command")
    command.configure(parser)
    return next(action for action in parser.helping()._actions if name in action.option_strings)


@pytest.mark.parametrize(("command", "default"), [(seal, Protection.RECORDED), (promote, Protection.READONLY)])
def test_a_level_is_one_of_those_that_a_file_can_have(command, default):
    offered = option(command, "--level")
    assert (list(offered.choices), offered.default) == ([level.label for level in Protection], default.label)


def test_a_merge_offers_the_strategies_and_the_ends_of_an_overlay_that_there_are():
    assert (option(merge_command, "--strategy").choices, option(merge_command, "--keep").choices) == (STRATEGIES, KEEPS)


def test_the_doctor_says_how_long_a_chain_may_be():
    assert option(doctor_command, "--longest-chain").default == LONGEST_CHAIN
