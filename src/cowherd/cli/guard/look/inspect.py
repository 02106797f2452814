"""`cowherd inspect`: says whether an image from a stranger may be used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cowherd.cli.guard.arguments import Parser, size_argument
from cowherd.cli.guard.output import Report, table
from cowherd.cli.guard.several import each, is_image
from cowherd.text import printable, shown

if TYPE_CHECKING:
    import argparse

    from cowherd.ops.inspect.report import Inspection

UNSAFE = 4


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Inspects an image from a stranger, at little cost whatever is in it, and opens no other file. Exit code 4 if a check\n"
        "refuses it.\n\n"
        "untrusted: nothing that leads out of the file or hides in it: no backing file, no data file,\n"
        "           no encryption, no snapshots, no bitmaps\n"
        "glance:    what OpenStack Glance takes: no backing file, no data file, no extended L2 entries\n"
        "trusted:   whatever the format has; but the tables must be sound",
        "cowherd inspect upload.qcow2 --format qcow2\ncurl -s https://example.org/disk.qcow2 | cowherd inspect - --policy glance",
    )
    parser.add_argument(
        "image",
        nargs="+",
        metavar="IMAGE",
        help="the image, - for standard input; of a directory, every image",
    )
    parser.add_argument("--format", help="what the image is said to be; another content is refused (default: guessed)")
    parser.add_argument("--policy", choices=("untrusted", "glance", "trusted"), default="untrusted", help="(default: untrusted)")
    parser.add_argument("--allow", action="append", default=[], metavar="FEATURE", help="a feature to let through all the same")
    parser.add_argument("--max-size", type=size_argument, metavar="SIZE", help="the largest disk to let through, as in 1T")
    parser.add_herd()
    parser.add_argument("-U", "--force-share", action="store_true", help="even while a machine has the image open for writing")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    arguments.image += arguments.herd
    return each(arguments, "image", _run, is_image)


def _run(arguments: argparse.Namespace) -> Report:
    from cowherd.ops.inspect.inspector import inspect

    found = inspect(
        sys.stdin.buffer if arguments.image == "-" else arguments.image,
        format=arguments.format,
        policy=arguments.policy,
        allow=arguments.allow,
        max_size=arguments.max_size,
        force_share=arguments.force_share,
    )
    name = "standard input" if arguments.image == "-" else shown(arguments.image)
    lines = table((check.outcome.value, check.name, printable(check.detail)) for check in found.checks)
    verdict = f"{name}: {_verdict(found)} ({found.format}, policy {found.policy})"
    return Report({"image": arguments.image, **found.to_json()}, (*lines, verdict), exit_code=0 if found.safe else UNSAFE)


def _verdict(found: Inspection) -> str:
    if found.refused:
        return f"refused: {', '.join(dict.fromkeys(check.name for check in found.refused))}"
    return "safe" if found.complete else "safe as far as it could be checked"
