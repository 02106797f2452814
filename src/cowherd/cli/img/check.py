"""`cowherd-img check`: whether an image's tables contradict each other."""

from __future__ import annotations

from cowherd.cli.img.chains import look
from cowherd.cli.img.common import FILENAME, OUTPUT, QUIET, cache_mode, one_filename, wants_json
from cowherd.cli.img.errors import CommandFailed, UsageError
from cowherd.cli.img.jsonout import dumps
from cowherd.cli.img.messages import opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import err, out
from cowherd.cli.img.sources import SOURCE_OPTIONS, source_to_read
from cowherd.formats import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.cli.img.jsonout import Json
    from cowherd.ops.check import CheckReport

CORRUPT, LEAKS, NOT_POSSIBLE = 2, 3, 63
"""qemu-img's exit codes for what a check finds, and for formats that have no check."""


def _repair(text: str) -> str:
    if text not in ("leaks", "all"):
        raise UsageError(f"--repair (-r) expects 'leaks' or 'all' not '{text}'")
    return text


SYNTAX = Syntax(
    "check",
    "Check basic image integrity",
    (
        QUIET,
        *SOURCE_OPTIONS,
        Option("cache", "T", "CACHE", "cache mode of the image; accepted, and checked, for qemu-img's sake"),
        OUTPUT,
        Option("repair", "r", "leaks|all", "refused: cowherd-img reports, and leaves repairs to qemu-img", _repair),
    ),
    (FILENAME,),
    (
        Example("check disk.qcow2", "the tables of one image"),
        Example("check --output=json disk.qcow2", "the same for a program to read"),
    ),
    notes="Exit codes: 0 the image is good, 1 it could not be checked, 2 it is corrupt, 3 it has leaked clusters but is good "
    "otherwise, 63 its format has no tables to check. A check says nothing about the content of the disk, and nothing about a "
    "base that was changed under an overlay: 'cowherd verify' does.",
)


def run(arguments: Arguments) -> int:
    """Prints what the check found; the exit code sums it up."""
    cache_mode(arguments, "cache", "source cache")
    image = source_to_read(arguments, one_filename(arguments))
    infos = look(image)
    if not registry.named(infos[0].format).checked:
        raise CommandFailed("This image format does not support checks", NOT_POSSIBLE)
    if arguments.flag("repair"):
        raise CommandFailed("cowherd-img checks, but does not repair; 'qemu-img check -r' does")
    from cowherd.ops.check import check

    with opening(image.text, image.path):
        report = check(image.path, format=image.format, force_share=arguments.flag("force-share"))
    for message in report.messages:
        err(message + "\n")
    if not arguments.flag("quiet"):
        out(dumps(_document(report, image.text, infos[0].format)) + "\n" if wants_json(arguments) else _text(report))
    if report.check_errors:
        raise CommandFailed("Check failed")
    return CORRUPT if report.corruptions else LEAKS if report.leaks else 0


def _document(report: CheckReport, filename: str, format: str) -> Json:
    """Returns the report for JSON, with the keys in QEMU's order, and without those that are 0."""
    document = report.to_json()
    fragmented = document.pop("fragmented-clusters", None)
    document |= {"filename": filename, "format": format}
    return document | ({} if fragmented is None else {"fragmented-clusters": fragmented})


def _text(report: CheckReport) -> str:
    parts: list[str] = []
    if report.corruptions:
        parts.append(
            f"\n{report.corruptions} errors were found on the image.\n"
            "Data may be corrupted, or further writes to the image may corrupt it.\n"
        )
    if report.leaks:
        parts.append(
            f"\n{report.leaks} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n"
        )
    if report.check_errors:
        parts.append(f"\n{report.check_errors} internal errors have occurred during the check.\n")
    return ("".join(parts) or "No errors were found on the image.\n") + _statistics(report)


def _statistics(report: CheckReport) -> str:
    text = ""
    if report.total_clusters and report.allocated_clusters:
        share = [
            (report.allocated_clusters, report.total_clusters, "allocated"),
            (report.fragmented_clusters, report.allocated_clusters, "fragmented"),
            (report.compressed_clusters, report.allocated_clusters, "compressed"),
        ]
        shares = ", ".join(f"{part * 100.0 / whole:.2f}% {name}" for part, whole, name in share)
        text = f"{report.allocated_clusters}/{report.total_clusters} = {shares} clusters\n"
    return text + (f"Image end offset: {report.image_end_offset}\n" if report.image_end_offset else "")
