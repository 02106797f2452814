"""`cowherd doctor`: everything that is wrong in a herd, worst first, each with its remedy."""

from __future__ import annotations

from cowherd.cli.guard.output import Report, progress_of_reading
from cowherd.cli.guard.rows import Rows
from cowherd.text import counted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.doctor.doctor import Diagnosis

FOUND = 4
_LONGEST_CHAIN = 16


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Examines the images under some directories and says everything that is wrong with them, worst first, each with the\n"
        "command that puts it right. Nothing is changed. Headers and the records of seals are read, so it is quick; --full also\n"
        "reads the content of sealed images and every table. Equal findings stand together, with one command for all.\n\n"
        "The exit code is 4 if something is wrong; notes, which are marked so, leave it 0.",
        "cowherd doctor /var/lib/libvirt/images",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="where to look (default: the current directory)")
    parser.add_argument("--full", action="store_true", help="also read the content of sealed images, and all tables")
    parser.add_argument(
        "--longest-chain",
        type=int,
        default=_LONGEST_CHAIN,
        metavar="N",
        help=f"how many images a chain may have (default: {_LONGEST_CHAIN})",
    )
    parser.add_all()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.doctor.doctor import doctor

    found = doctor(
        [*arguments.directories, *arguments.herd],
        full=arguments.full,
        longest_chain=arguments.longest_chain,
        reading=progress_of_reading,
    )
    return Report(found.to_json(Rows), tuple(_lines(found, arguments.all)), exit_code=0 if found.healthy else FOUND)


def _lines(found: Diagnosis, each: bool) -> Iterator[str]:
    from cowherd.cli.guard.look.findings import finding_lines

    yield from finding_lines(found.findings, each=each)
    faults = sum(not finding.kind.is_note for finding in found.findings)
    notes = len(found.findings) - faults
    yield f"{counted(found.images, 'image')}: {faults or 'nothing'} wrong" + (f", {counted(notes, 'note')}" if notes else "")
    if found.catalog:
        yield f"headers that did not change are known from {shown(found.catalog)}; --rescan reads them anew"
    if not found.full:
        yield "neither content nor all tables were read; --full does"
    for reason in found.not_asked:
        yield f"not every machine was asked: {reason}"
