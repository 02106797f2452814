"""Commands for one image that take several, and directories in place of the images under them."""

from __future__ import annotations

import os
from functools import partial

from cowherd.cli.guard.output import Report, reported

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image

_WORST_FIRST = (1, 2, 3, 4)
"""Exit codes: what failed hides what was found, and what was refused likewise."""


def each(
    arguments: argparse.Namespace,
    name: str,
    command: Callable[[argparse.Namespace], Report],
    chosen: Callable[[Lineage, Image], bool],
) -> Report:
    """Carries a command out for each image that the argument called `name` lists; of a directory, for those that are `chosen`.

    For one image the report is that of the command. For several it has theirs under "images" in the order of the command line, an
    error in place of a report that could not be made; the exit code is the worst.
    """
    listed: Sequence[str] = getattr(arguments, name)
    images = list({os.path.realpath(image): image for image in _expanded(listed, chosen)}.values())
    if images == list(listed) and len(images) == 1:
        return command(_with(arguments, name, images[0]))
    reports = [reported(partial(command, _with(arguments, name, image))) for image in images]
    documents: list[Any] = [report.document for report in reports]
    codes = {report.exit_code for report in reports}
    return Report(
        {"images": documents},
        tuple(line for report in reports for line in report.lines) if images else ("no images",),
        tuple(note for report in reports for note in report.notes),
        next((code for code in _WORST_FIRST if code in codes), 0),
    )


def _expanded(names: Iterable[str], chosen: Callable[[Lineage, Image], bool]) -> Iterable[str]:
    """Yields names, and for a directory those of the images under it, bases before their overlays. Raises `HostFileError`."""
    for name in names:
        if not os.path.isdir(name):
            yield name
            continue
        from cowherd.herd.lineage.survey import survey

        lineage = survey([name])
        yield from (os.fspath(image.path) for _, image, _ in lineage.walk() if chosen(lineage, image))


def _with(arguments: argparse.Namespace, name: str, value: str) -> argparse.Namespace:
    return type(arguments)(**{**vars(arguments), name: value})


def is_base(lineage: Lineage, image: Image) -> bool:
    """Returns whether an overlay stands on the image."""
    return bool(lineage.children(image))


def is_sealed(lineage: Lineage, image: Image) -> bool:
    """Returns whether the image has a seal, sound or not."""
    from cowherd.herd.records.sealplace import is_sealed as has_seal

    return has_seal(image.path)


def is_image(lineage: Lineage, image: Image) -> bool:
    """Returns True: every image counts."""
    return True
