"""`cowherd unseal`: gives up a seal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report
from cowherd.cli.guard.several import each, is_sealed
from cowherd.text import shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Removes the seal of BASE, its shadow and the protection of its file, whose mode becomes what it was before.\n"
        "Refused (exit code 3) while overlays depend on it.",
        "cowherd unseal old-base.qcow2",
    )
    parser.add_argument("base", nargs="+", metavar="BASE", help="a sealed image; of a directory, all that are sealed")
    parser.add_argument(
        "--force",
        action="store_true",
        help="even though overlays depend on it, the seal is damaged, or the mode can't be given back",
    )
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return each(arguments, "base", _run, is_sealed)


def _run(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.seals.unseal import unseal

    seal = unseal(arguments.base, force=arguments.force, herd=arguments.herd)
    return Report({"image": os.path.abspath(arguments.base), "seal": os.fspath(seal)}, (f"{shown(arguments.base)}: unsealed",))
