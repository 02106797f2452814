"""`cowherd trash`: lists deleted images, brings them back, or removes them for good."""

from __future__ import annotations

from cowherd.cli.guard.output import Report, table
from cowherd.errors import InvalidRequest
from cowherd.sizes import human_size
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "list     shows what lies in the trash of directories (default: the current one) and of all under them\n"
        "restore  puts images back where they were, each named by its path from before or by its id; of one path, the newest\n"
        "empty    removes for good what lies in the trash of directories; refused (exit code 3) while an overlay there waits\n"
        "         for its base to come back",
        "cowherd trash list /srv/vms\ncowherd trash restore /srv/vms/web.qcow2\ncowherd trash empty /srv/vms --older-than 30",
    )
    parser.add_argument("action", choices=("list", "restore", "empty"), metavar="list|restore|empty", help="what to do")
    parser.add_argument("names", nargs="*", metavar="NAME", help="directories, or what to restore")
    parser.add_argument("--older-than", type=float, default=0, metavar="DAYS", help="empty: only what was deleted so long ago")
    parser.add_argument(
        "--force", action="store_true", help="empty: even though an overlay waits for its base, or somebody made it immutable"
    )
    parser.add_argument("--dry-run", action="store_true", help="empty: say what would be removed, and change nothing")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return {"list": _list, "restore": _restore, "empty": _empty}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.trash.trash import trashed

    found = trashed([*arguments.names, *arguments.herd])
    notes = _notes(arguments)
    lines = table((f"{entry.deleted[:19]}Z", entry.id, human_size(entry.disk_size), shown(entry.path)) for entry in found)
    return Report({"images": [entry.to_json() for entry in found]}, tuple(lines or ["the trash is empty"]), notes)


def _restore(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.trash.trash import restore

    if not arguments.names:
        raise InvalidRequest("what is to be restored? 'cowherd trash list' shows what there is")
    back = [restore(name, herd=arguments.herd) for name in arguments.names]
    lines = [f"{shown(one.path)}: restored{', its seal holds' if one.sealed else ''}" for one in back]
    notes = [f"cowherd: {shown(one.path)}: its base can't be followed: {one.base_problem}" for one in back if one.base_problem]
    document = [one.to_json() for one in back]
    return Report({"images": document}, tuple(lines), tuple(notes))


def _empty(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.trash.trash import empty_trash

    how = {"older_than_days": arguments.older_than, "force": arguments.force, "dry_run": arguments.dry_run}
    gone = empty_trash([*arguments.names, *arguments.herd], **how)
    word = "would be removed" if arguments.dry_run else "removed"
    lines = [f"{shown(entry.path)}: {word}, {human_size(size)}" for entry, size in gone]
    document = {"images": [entry.to_json() | {"disk_size": size} for entry, size in gone], "done": not arguments.dry_run}
    return Report(document, tuple(lines or ["nothing to remove"]), _notes(arguments))


def _notes(arguments: argparse.Namespace) -> tuple[str, ...]:
    from cowherd.herd.trash.trash import left_alone

    strange = left_alone([*arguments.names, *arguments.herd])
    return tuple(f"cowherd: {shown(path)}: left alone, it is no deleted image of cowherd's" for path in strange)
