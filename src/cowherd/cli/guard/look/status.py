"""`cowherd status`: one line for each base, worst first."""

from __future__ import annotations

from cowherd.cli.guard.output import Report, table
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.report.bases import Base, Standing

FOUND = 4


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Says of each base under some directories how it is, worst first: how many overlays stand on it, on how many of these\n"
        "machines run, and when its content was last read as a whole and found right, if cowherd's log knows. A base that is\n"
        "fine itself, with an overlay right on it that is not, stands with the bad ones. Only headers and the records of seals\n"
        "are read.\n\n"
        "The exit code is 4 if something is wrong.",
        "cowherd status /var/lib/libvirt/images",
    )
    parser.add_argument("places", nargs="*", metavar="DIR|IMAGE", help="where to look (default: the current directory)")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.report.bases import standing

    found = standing(arguments.places, herd=arguments.herd)
    return Report(found.to_json(), tuple(_lines(found)), tuple(_notes(found)), FOUND if found.wrong else 0)


def _lines(found: Standing) -> Iterator[str]:
    if not found.bases:
        yield "no bases" if found.tree.nodes else "no images"
        return
    yield from table([("status", "base", "seal", "overlays", "run", "verified"), *map(_row, found.bases)])
    for base in found.bases:
        if not base.is_fine:
            yield f"{shown(base.path)}: {_reason(base)}"
    wrong = f"{found.wrong} wrong; 'cowherd doctor' says what to do" if found.wrong else "nothing wrong"
    yield f"{len(found.bases)} base{'' if len(found.bases) == 1 else 's'}: {wrong}"


def _row(base: Base) -> tuple[str, ...]:
    verified = base.verified[:10] if base.verified else "-"
    return base.status.value, shown(base.path), base.level or "-", str(base.overlays), str(base.running), verified


def _reason(base: Base) -> str:
    if not base.wrong_overlays:
        return base.problem or base.detail or base.status.value
    return (
        f"{base.wrong_overlays} of the overlays right on it {'is' if base.wrong_overlays == 1 else 'are'} not fine: {base.detail}"
    )


def _notes(found: Standing) -> Iterator[str]:
    from cowherd.herd.machines.running import hidden_in_words

    unreadable = found.tree.unreadable
    if unreadable:
        more = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        yield f"cowherd: could not look at {shown(unreadable[0])}{more}: there may be overlays among them"
    if found.tree.hidden_machines and found.bases:
        yield f"cowherd: {hidden_in_words(found.tree.hidden_machines)}"
