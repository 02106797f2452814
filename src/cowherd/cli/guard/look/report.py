"""`cowherd report`: writes a herd as one HTML page, or serves the page as the herd is now."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress, progress_of_reading, say
from cowherd.cli.guard.usage import UsageError
from cowherd.text import counted, shown

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from cowherd.cli.guard.arguments import Parser
    from cowherd.cli.guard.look.page.live import LivePage
    from cowherd.herd.report.overview import Look
    from cowherd.herd.watch.events import Event
    from cowherd.progress import Progress

_PORT = "8642"
_SETTLE_SECONDS = 2.0


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Writes one HTML page about the herd in some directories: what is wrong with its remedies, lineage, disk use, and where\n"
        "bases have changed, with what each overlay sees of that. It needs no other file and loads nothing; a script in it\n"
        "searches, filters and sorts, and all can be read without it. The exit code is 0 whatever it shows.\n\n"
        "--serve gives the same page to browsers on this machine until it is ended, and makes it anew when something is\n"
        "written to a sealed image or images come and go, as 'cowherd watch' notices it.",
        "cowherd report -o herd.html /srv/vms\ncowherd report /srv/vms --serve",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="where to look (default: the current directory)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the page to write; one that is there is replaced")
    parser.add_argument(
        "--serve",
        nargs="?",
        const=_PORT,
        metavar="[ADDRESS:]PORT",
        help=f"serve the page (default: 127.0.0.1:{_PORT}); directories come before it",
    )
    parser.add_argument("--serve-anywhere", action="store_true", help="allow an address that other machines can reach")
    parser.add_argument("--full", action="store_true", help="read the content of all sealed images, and all tables")
    parser.add_argument("--files", action="store_true", help="look inside: which files and file systems a change hits")
    parser.add_donors("with --files: an image that holds the old content")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    if (arguments.output is None) == (arguments.serve is None):
        raise UsageError(
            "report writes a file or serves a page", "as in: cowherd report -o FILE DIR, or cowherd report DIR --serve"
        )
    if arguments.donors and not arguments.files:
        raise UsageError("--from says where --files finds the old content", "as in: cowherd report -o FILE --files --from DONOR")
    return _write(arguments) if arguments.serve is None else _serve(arguments)


def _look(arguments: argparse.Namespace) -> Look:
    from pathlib import Path

    from cowherd.herd.report.overview import Look

    return Look(arguments.full, arguments.files, tuple(map(Path, arguments.donors)), progress_of_reading, _progress_inside)


def _progress_inside(what: str, overlay: Path) -> Progress | None:
    return progress(f"{what} {shown(overlay)}")


def _write(arguments: argparse.Namespace) -> Report:
    from cowherd.cli.guard.look.page.document import page
    from cowherd.herd.report.overview import look_over
    from cowherd.herd.report.readings import Readings
    from cowherd.storage.atomic import write_atomically
    from cowherd.storage.filetype import refuse_device_node
    from cowherd.storage.presence import look_up

    seen = look_over([*arguments.directories, *arguments.herd], _look(arguments), Readings())
    text = page(seen).encode("utf-8")
    info = look_up(arguments.output)
    if info and (stat.S_ISFIFO(info.st_mode) or stat.S_ISCHR(info.st_mode)):  # as /dev/stdout, which no file is to replace
        with open(arguments.output, "wb") as output:
            output.write(text)
    else:
        refuse_device_node(arguments.output, "replace")
        write_atomically(arguments.output, text)
    document = {"page": os.path.abspath(arguments.output), **seen.to_json()}
    return Report(document, (f"{shown(arguments.output)}: {counted(len(seen.tree.nodes), 'image')}",))


def _serve(arguments: argparse.Namespace) -> Report:
    from cowherd.cli.guard.look.page.live import LivePage
    from cowherd.cli.guard.look.page.server import PageServer
    from cowherd.cli.guard.watched import directories_of
    from cowherd.herd.report.overview import look_over
    from cowherd.herd.report.readings import Readings
    from cowherd.herd.watch.reporting.address import parse_address

    address, port = parse_address(arguments.serve, "--serve", anywhere=arguments.serve_anywhere)
    directories, look, readings = directories_of(arguments), _look(arguments), Readings()
    live = LivePage(lambda: look_over(directories, look, readings))
    server = PageServer(address, port, live)
    try:
        _watch(directories, live, server.url)
    finally:
        server.close()
        live.close()
    return Report({"page": server.url, "directories": [os.fspath(directory) for directory in directories]})


def _watch(directories: tuple[Path, ...], live: LivePage, url: str) -> None:
    import queue

    from cowherd.herd.watch.daemon import Daemon, Settings
    from cowherd.herd.watch.reporting.log import Log

    settings = Settings(directories, rate=None, settle=_SETTLE_SECONDS, every=None)
    log = Log(verbose=False)
    try:
        Daemon(settings, [log, live, _Place(url)], queue.SimpleQueue(), live.hear).run()
    finally:
        log.close()


class _Place:
    """Says where the page is, once the watch has begun."""

    def __init__(self, url: str):
        self._url = url

    def report(self, event: Event) -> None:
        """Says it when the watch tells that it has started."""
        if event.kind == "started":
            say(f"cowherd: the page is at {self._url} until this is ended")

    def reopen(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""
