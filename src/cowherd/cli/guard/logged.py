"""Says which commands of the guard are logged, and which images their command lines name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from cowherd.cli.guard.output import Report

CHANGING = frozenset(
    (
        *("bind", "clone", "delete", "flatten", "gc", "merge", "move", "promote"),
        *("recover", "rename", "repair", "retarget", "seal", "trash", "unseal"),
    )
)
"""The commands that may change files of a herd."""

_LOGGED = CHANGING - {"gc"}  # what that removes are no images
_IMAGES = ("base", "image", "images", "into", "names", "new_base", "onto", "overlay", "overlays", "paths")
"""The arguments that name images, in all of these commands."""


def run_logged(command: str, arguments: argparse.Namespace, run: Callable[[argparse.Namespace], Report]) -> Report:
    """Carries a command out, and logs it if it changes images, or reads whole contents. Raises as the command."""
    given = vars(arguments)
    action = given.get("action")
    if command in _LOGGED and not given.get("dry_run") and action != "list":
        named = list(_named(given))
    elif command == "verify" and arguments.full:
        named = []  # the command itself notes those whose content is right
    else:
        return run(arguments)
    from cowherd.cli.logged import log_command

    with log_command("cowherd", f"{command} {action}" if action else command, named) as outcome:
        report = run(arguments)
        outcome.exit_code = report.exit_code
        outcome.problem = "; ".join(note.removeprefix("cowherd: ") for note in report.notes) if report.exit_code else ""
    return report


def _named(given: dict[str, Any]) -> Iterator[str]:
    for argument in _IMAGES:
        value = given.get(argument) or ()
        yield from (value,) if isinstance(value, str) else value
