"""`cowherd gc`: lists what a herd could do without."""

from __future__ import annotations

from cowherd.cli.guard.output import Report
from cowherd.sizes import human_size
from cowherd.text import command_line, counted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Lists what the herd in some directories could do without, the bytes that each would free, and the command for it:\n\n"
        "leftover: files of interrupted work, seals of images that are gone\n"
        "trashed: what lies in the trash\n"
        "unproven: what only has such a name, or is a link in the trash\n"
        "last-copy: seal and shadow of an image that is gone\n"
        "orphan: overlays whose base is gone\n"
        "unused-base: sealed images that no overlay here stands on\n\n"
        "Nothing is removed, except leftovers with --clean. Overlays elsewhere are not known of: name their directories too.",
        "cowherd gc /srv/vms /srv/bases",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="where to look (default: the current directory)")
    parser.add_argument("--clean", action="store_true", help="remove the leftovers, and nothing else")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.trash.gc import clean, gc

    found = gc([*arguments.directories, *arguments.herd])
    removed = clean(found) if arguments.clean else []
    lines = []
    for one in found:
        lines.append(f"{one.sort.value}: {shown(one.path)}: {human_size(one.frees)}, {one.detail}")
        lines.append("    removed" if one in removed else f"    {command_line(one.remedy)}")
    document = [one.to_json() | {"removed": one in removed} for one in found]
    total = sum(one.frees for one in found)
    lines.append(f"{counted(len(found), 'thing')}, {human_size(total)}" if found else "nothing to remove")
    return Report({"garbage": document, "frees": total}, tuple(lines))
