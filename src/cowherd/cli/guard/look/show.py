"""`cowherd show`: all that is known of an image."""

from __future__ import annotations

from cowherd.cli.guard.output import Report
from cowherd.cli.guard.several import each, is_image
from cowherd.sizes import human_size
from cowherd.text import printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.report.show import Shown
    from cowherd.herd.report.tree import Node

FOUND = 4
_LISTED = 12
_DIGITS = 16


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Shows an image: the chain that it stands on, what stands on it, its sizes, its seal and its binding, which domains\n"
        "name it, what has it open, and what is wrong with it or with its chain, each with its remedy. No data is read.\n\n"
        "The exit code is 4 if something is wrong; notes, which are marked so, leave it 0.",
        "cowherd show web.qcow2",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="the image; of a directory, every image")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return each(arguments, "images", _run, is_image)


def _run(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.report.show import show

    found = show(arguments.images, herd=arguments.herd)
    return Report(found.to_json(), tuple(_lines(found)), exit_code=0 if found.healthy else FOUND)


def _lines(found: Shown) -> Iterator[str]:
    node = found.node
    yield f"{shown(node.image.filename)}: {_status(node)}"
    for label, text in _facts(found):
        yield f"  {label:9}  {text}"
    for finding in found.findings:
        about = "" if finding.filename in node.image.filenames else f"{shown(finding.filename)}: "
        yield f"  {'note' if finding.kind.is_note else 'wrong':9}  {finding.kind.value}: {about}{finding.detail}"
        if finding.remedy:
            import shlex

            yield f"  {'':9}      {printable(shlex.join(finding.remedy))}"


def _facts(found: Shown) -> Iterator[tuple[str, str]]:
    node = found.node
    image = node.image
    size = "a disk of unknown size" if image.size is None else f"a disk of {human_size(image.size)}"
    shared = f", {human_size(found.shared)} of it shared with other files" if found.shared else ""
    yield "holds", f"{size}, {image.format}; {human_size(image.disk_size)} on disk{shared}"
    for name in image.filenames[1:]:
        yield "also", shown(name)
    if image.data_file:
        yield "data file", printable(image.data_file)
    for below in found.chain:
        yield "stands on", f"{shown(below.image.filename)}: {_standing(below)}"
    if not found.chain and node.base_name:
        yield "stands on", f"{shown(node.base_name)}, which can't be followed"
    if image.binding:
        yield (
            "bound to",
            f"content {image.binding.content_digest.hex()[:_DIGITS]}, generation {image.binding.generation} of its seal",
        )
    if node.level:
        yield "seal", _seal(found.record, node.level) if found.record else node.level
    if found.verified:
        yield "verified", f"{found.verified}, its whole content"
    yield from _carried(found)
    for naming in found.domains:
        domain = naming.domain
        yield "domain", f"{printable(domain.name)} names it as {naming.role}{', and runs' if domain.active else ''}"
    yield from _users(found)


def _seal(record: SealRecord, level: str) -> str:
    facts = [
        level,
        f"made {record.created[:19]}Z by {printable(record.made_by)}",
        f"content {record.content_digest.hex()[:_DIGITS]}",
    ]
    facts += [f"generation {record.generation}"] if record.generation > 1 else []
    facts += [f"signed by {record.signature.public_key.hex()[:_DIGITS]}"] if record.signature else []
    facts += [f"shadow {printable(record.shadow)}"] if record.shadow else []
    return ", ".join(facts)


def _carried(found: Shown) -> Iterator[tuple[str, str]]:
    number, running = len(found.overlays), found.node.running_overlays
    if number:
        runs = f", {running} of them running" if running else ""
        yield "carries", f"{number} overlay{'' if number == 1 else 's'}{runs}"
    for overlay in found.overlays[:_LISTED]:
        runs = f", runs as {', '.join(machine.describe() for machine in overlay.machines)}" if overlay.machines else ""
        yield "", f"{shown(overlay.image.filename)}: {_standing(overlay)}{runs}"
    if number > _LISTED:
        import shlex

        yield "", f"and {number - _LISTED} more; 'cowherd tree {shlex.quote(shown(found.node.image.filename))}' shows all"


def _users(found: Shown) -> Iterator[tuple[str, str]]:
    from cowherd.live.holders import describe

    for machine in found.machines:
        yield "runs", f"{describe(machine.holder)}{f', unit {machine.unit}' if machine.unit else ''}"
    for holder in found.users:
        yield "open in", describe(holder)
    if found.hidden_machines:
        from cowherd.herd.machines.running import hidden_in_words

        yield "unseen", hidden_in_words(found.hidden_machines)


def _status(node: Node) -> str:
    reason = node.image.problem or node.detail
    return f"{node.status.value}: {reason}" if reason else node.status.value


def _standing(node: Node) -> str:
    return f"{f'seal {node.level}, ' if node.level else ''}{node.status.value}"
