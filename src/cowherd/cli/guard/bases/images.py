"""`cowherd images`: lists the images of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, table
from cowherd.sizes import human_size
from cowherd.text import printable

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from cowherd.cli.guard.arguments import Parser

_HEAD = ("ID", "NAME", "STATUS", "FORMAT", "SIZE", "VISIBILITY", "BASE")


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Lists the images of an image service that you may see, newest first: cowherd's ('cowherd serve') or another that\n"
        "speaks OpenStack's Image API. With --json, everything that the service tells of them.",
        "cowherd images --to http://127.0.0.1:9292",
    )
    parser.add_service()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.client.finding import find_service

    found = list(find_service(arguments.to).images())
    lines = table([_HEAD, *map(_row, found)]) if found else ["no images"]
    return Report({"images": found}, tuple(lines))


def _row(image: dict[str, Any]) -> tuple[str, ...]:
    size = image.get("size")
    cells = [image.get(name) or "" for name in ("id", "name", "status", "disk_format", "visibility", "cowherd_base")]
    cells.insert(4, "" if size is None else human_size(size))
    return tuple(printable(cell) for cell in cells)
