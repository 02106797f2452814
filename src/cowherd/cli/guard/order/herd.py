"""`cowherd herd`: names the directories in which herds lie."""

from __future__ import annotations

import os

from cowherd.cli.guard.output import Report
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser

ACTIONS = ("add", "list", "remove", "forget")


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Names directories in which images lie, once: every command then looks under them for the overlays of an image.\n\n"
        "add DIR      names a directory, in /etc/cowherd/cowherd.toml (root) or ~/.config/cowherd/cowherd.toml\n"
        "list         shows the herds that are named, there and in COWHERD_HERD\n"
        "remove DIR   takes the name back\n"
        "forget DIR   gives up overlays that are known to lie in DIR, which can't be looked at any more, say because the disk\n"
        "             is gone for good; the seals of images that are named behind it forget them, too",
        "cowherd herd add /srv/vms\ncowherd herd list\ncowherd herd forget /mnt/old debian12.qcow2",
    )
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("directory", nargs="?", metavar="DIR", help="the directory")
    parser.add_argument("bases", nargs="*", metavar="BASE", help="with forget: sealed images that forget DIR as well")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.cli.guard.usage import UsageError

    usage = "as in: cowherd herd add DIR, cowherd herd list"
    if (arguments.directory is None) != (arguments.action == "list") or (arguments.bases and arguments.action != "forget"):
        raise UsageError(f"{arguments.action} takes {'no directory' if arguments.action == 'list' else 'one directory'}", usage)
    if arguments.action == "list":
        return _listed()
    if arguments.action == "add":
        return _added(arguments.directory)
    if arguments.action == "remove":
        return _removed(arguments.directory)
    return _forgotten(arguments.directory, arguments.bases)


def _listed() -> Report:
    from cowherd.herd.lineage.book.config import herds

    named = herds()
    lines = [printable(herd) + ("" if os.path.isdir(herd) else " (not there)") for herd in named]
    return Report({"herds": named}, tuple(lines or ["no herd is named; 'cowherd herd add DIR' names one"]))


def _added(directory: str) -> Report:
    from cowherd.herd.lineage.book.config import add_herd

    path = add_herd(directory)
    real = os.path.realpath(directory)
    line = f"{printable(real)}: named in {printable(path)}" if path else f"{printable(real)}: named already"
    return Report({"herd": real, "file": path}, (line,))


def _removed(directory: str) -> Report:
    from cowherd.herd.lineage.book.config import remove_herd

    path, real = remove_herd(directory), os.path.realpath(directory)
    return Report({"herd": real, "file": path}, (f"{printable(real)}: no longer named in {printable(path)}",))


def _forgotten(directory: str, bases: list[str]) -> Report:
    from cowherd.herd.lineage.book.forgetting import give_up

    number = give_up(directory, bases)
    line = f"{printable(os.path.abspath(directory))}: {number or 'no'} place{'' if number == 1 else 's'} with overlays forgotten"
    return Report({"directory": os.path.abspath(directory), "forgotten": number}, (line,))
