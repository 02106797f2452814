"""The shared parts of `run` and `hook check`: the options of the check before a start, and the form of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import table
from cowherd.herd.gate.startup import NO_FILE, NOT_UNDERSTOOD, NOT_VERIFIED
from cowherd.live.machine.drive import EMPTY
from cowherd.text import printable, shown

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.gate.startup import Answer, Start


def add_options(parser: Parser) -> None:
    """Declares the options for the strictness of the check."""
    parser.add_argument("--full", action="store_true", help="read the content of all sealed images in the chains")
    parser.add_argument("--strict", action="store_true", help="refuse also where only owner, mode or other attributes changed")
    parser.add_argument(
        "--no-dependents", action="store_true", help="don't look for overlays of the disks that are written to (huge directories)"
    )
    parser.add_argument(
        "--allow-unknown",
        action="store_true",
        help="start also where it is not understood which files it will open, and say so",
    )
    parser.add_herd()


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns these options as arguments of `cowherd.herd.gate.startup.check_start`."""
    return {
        "full": arguments.full,
        "strict": arguments.strict,
        "dependents": not arguments.no_dependents,
        "herd": arguments.herd,
        "allow_unknown": arguments.allow_unknown,
    }


def lines(found: Start) -> tuple[str, ...]:
    """Returns a line about each drive."""
    rows = [(str(answer.status), printable(answer.drive.where), _path(answer), answer.detail) for answer in found.answers]
    return tuple(table(rows)) or ("no drives",)


def remarks(found: Start) -> tuple[str, ...]:
    """Returns the lines for standard error although the machine starts: drives that nobody checked or that were let through."""
    said = []
    for answer in found.answers:
        unchecked = answer.status == NOT_UNDERSTOOD or (answer.status == NOT_VERIFIED and _is_worth_saying(answer))
        if unchecked or answer.status == "attributes":
            said.append(f"cowherd: {'not checked: ' if unchecked else ''}{printable(answer.drive.where)}: {answer.detail}")
    return tuple(said)


def _is_worth_saying(answer: Answer) -> bool:
    """Returns whether an answer is about more than an empty drive, or a missing file, which QEMU itself reports."""
    return answer.detail not in (EMPTY, NO_FILE)


def reasons(found: Start, what: str) -> tuple[str, ...]:
    """Returns why `what` must not start, for standard error, and what to do."""
    said = [f"cowherd: refusing to start {what}: {_reason(answer)}" for answer in found.refusals]
    return (*said, *dict.fromkeys(_advice(answer) for answer in found.refusals if _advice(answer)))


def _reason(answer: Answer) -> str:
    facts = [printable(answer.drive.where), answer.status, printable(answer.image or ""), answer.detail]
    return ": ".join(fact for fact in facts if fact)


def _advice(answer: Answer) -> str:
    if answer.status in ("touched", "replaced", "drifted") and answer.image:
        path = printable(answer.image)
        return (
            f"cowherd: 'cowherd verify --full --refresh {path}' says whether its content is as sealed and, if so, clears this; "
            f"'cowherd repair {path}' brings it back"
        )
    if answer.status == "unvouched" and answer.image:
        path = printable(answer.image)
        compares = f"'cowherd verify --full {path}' compares its base with what it was made on"
        return f"cowherd: {compares}; 'cowherd seal' records the base again if it fits"
    if answer.status == NOT_UNDERSTOOD:
        return "cowherd: so nobody can say that no base is harmed; who knows better starts it with --allow-unknown"
    if answer.status in ("missing-base", "binding-mismatch") and answer.drive.path:
        return f"cowherd: 'cowherd doctor {printable(answer.drive.path.parent)}' says what to do"
    return ""


def _path(answer: Answer) -> str:
    return shown(answer.drive.path) if answer.drive.path else "-"
