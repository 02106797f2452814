"""What `run` and `hook check` have in common: options of the check before a start, and how its answer is shown."""

from __future__ import annotations

import os

from cowherd.cli.guard.output import table
from cowherd.live.machine.drive import EMPTY
from cowherd.text import printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.startup import Answer, Start


def add_options(parser: Parser) -> None:
    """Declares how strict the check is."""
    parser.add_argument("--full", action="store_true", help="read the content of all sealed images in the chains")
    parser.add_argument("--strict", action="store_true", help="refuse also where only owner, mode or other attributes changed")
    parser.add_argument(
        "--no-dependents", action="store_true", help="don't look for overlays of the disks that are written to (huge directories)"
    )
    parser.add_herd()


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns these options as `cowherd.herd.startup.check_start` takes them."""
    return {
        "full": arguments.full,
        "strict": arguments.strict,
        "dependents": not arguments.no_dependents,
        "herd": arguments.herd,
    }


def document(found: Start) -> dict[str, Any]:
    """Returns the answer for --json."""
    return {"may_start": not found.exit_code, "drives": [_drive(answer) for answer in found.answers]}


def _drive(answer: Answer) -> dict[str, Any]:
    return {
        "where": answer.drive.where,
        "path": os.fspath(answer.drive.path) if answer.drive.path else None,
        "writable": answer.drive.writable,
        "status": str(answer.status),
        "image": os.fspath(answer.image) if answer.image else None,
        "detail": answer.detail,
        "refused": bool(answer.exit_code),
    }


def lines(found: Start) -> tuple[str, ...]:
    """Returns a line on each drive."""
    rows = [(str(answer.status), printable(answer.drive.where), _path(answer), answer.detail) for answer in found.answers]
    return tuple(table(rows)) or ("no drives",)


def remarks(found: Start) -> tuple[str, ...]:
    """Returns what is worth a line on standard error though the machine starts: what nobody checked, and what was let through."""
    said = []
    for answer in found.answers:
        unchecked = answer.drive.remote not in ("", EMPTY)
        if unchecked or answer.status == "touched":
            said.append(f"cowherd: {'not checked: ' if unchecked else ''}{printable(answer.drive.where)}: {answer.detail}")
    return tuple(said)


def reasons(found: Start, what: str) -> tuple[str, ...]:
    """Returns why `what` must not start, for standard error, and what to do."""
    said = [f"cowherd: refusing to start {what}: {_reason(answer)}" for answer in found.refusals]
    return (*said, *dict.fromkeys(_advice(answer) for answer in found.refusals if _advice(answer)))


def _reason(answer: Answer) -> str:
    return f"{printable(answer.drive.where)}: {answer.status}: {printable(answer.image or '')}: {answer.detail}"


def _advice(answer: Answer) -> str:
    if answer.status in ("touched", "replaced", "drifted") and answer.image:
        path = printable(answer.image)
        return (
            f"cowherd: 'cowherd verify --full --refresh {path}' says whether its content is as sealed and, if so, clears this; "
            f"'cowherd repair {path}' brings it back"
        )
    if answer.status in ("missing-base", "binding-mismatch") and answer.drive.path:
        return f"cowherd: 'cowherd doctor {printable(answer.drive.path.parent)}' says what to do"
    return ""


def _path(answer: Answer) -> str:
    return shown(answer.drive.path) if answer.drive.path else "-"
