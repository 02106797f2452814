"""`cowherd push`: makes an image of this host an image of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.sizes import human_size
from cowherd.text import printable, shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser
    from cowherd.client.push import Pushed


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Sends IMAGE to an image service: cowherd's ('cowherd serve') or another that speaks OpenStack's Image API. An overlay\n"
        "is sent as it is, after its base, unless the service has that; it needs a binding ('cowherd bind'). What the service\n"
        "has already, byte by byte, is not sent again. A push that was interrupted goes on when it is given again.",
        "cowherd push debian12.qcow2 --to http://127.0.0.1:9292 --name debian-12\ncowherd push web.qcow2 --dry-run",
    )
    parser.add_argument("image", metavar="IMAGE", help="the image to send")
    parser.add_service()
    parser.add_argument("--name", metavar="NAME", help="what the service is to call it (default: the name of the file)")
    parser.add_argument("--format", metavar="FMT", help="the format of IMAGE (default: as its first bytes say)")
    parser.add_argument("--visibility", metavar="WHO", help="who may see it: private, shared, community or public")
    parser.add_dry_run("what would be sent")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.client.finding import find_service
    from cowherd.client.push import push

    done = push(
        find_service(arguments.to),
        arguments.image,
        name=arguments.name,
        format=arguments.format,
        visibility=arguments.visibility,
        dry_run=arguments.dry_run,
        progress=progress,
    )
    document = {"images": [one._asdict() for one in done], "done": not arguments.dry_run}
    return Report(document, tuple(_line(one, arguments.dry_run) for one in done))


def _line(one: Pushed, dry_run: bool) -> str:
    if not one.sent:
        return f"{shown(one.path)}: the service has it, as image {printable(one.image_id or '')}"
    if dry_run:
        return f"{shown(one.path)}: {human_size(one.size)} to be sent as '{printable(one.name)}'; nothing was sent (--dry-run)"
    return f"{shown(one.path)}: sent, {human_size(one.size)}, image {printable(one.image_id or '')} '{printable(one.name)}'"
