"""`cowherd pull`: makes an image of a service an image of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.sizes import human_size
from cowherd.text import printable, shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser
    from cowherd.client.pull import Pulled


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Fetches IMAGE from an image service, verifies it by its hash, and seals it. It has its name only when it is whole. An\n"
        "overlay comes with all that it stands on, beside it, and names its base as that is called here. What is there already\n"
        "is not fetched again. A pull that was interrupted goes on when it is given again.",
        "cowherd pull debian-12 -o debian12.qcow2 --to http://127.0.0.1:9292",
    )
    parser.add_argument("image", metavar="IMAGE", help="the id or the name of the image")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file to make (default: the image's name, here)")
    parser.add_service()
    parser.add_level("files", "recorded")
    parser.add_dry_run("what would be fetched")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.client.finding import find_service
    from cowherd.client.pull import pull
    from cowherd.storage.protection import Protection

    done = pull(
        find_service(arguments.to),
        arguments.image,
        arguments.output,
        level=Protection.named(arguments.level),
        dry_run=arguments.dry_run,
        progress=progress,
    )
    document = {"images": [one._asdict() for one in done], "done": not arguments.dry_run}
    return Report(document, tuple(_line(one, arguments.dry_run) for one in done))


def _line(one: Pulled, dry_run: bool) -> str:
    if not one.fetched:
        return f"{shown(one.path)}: it is there, as image {printable(one.image_id)} is"
    if dry_run:
        return f"{shown(one.path)}: {human_size(one.size)} to be fetched; nothing was fetched (--dry-run)"
    return f"{shown(one.path)}: fetched, {human_size(one.size)}, sealed"
