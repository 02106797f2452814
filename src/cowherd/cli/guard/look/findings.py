"""The doctor's findings as text: equal ones once, each with the command that ends it, for a shell to read."""

from __future__ import annotations

import os

from cowherd.cli.guard.groups import alike, expanded, named
from cowherd.cli.guard.screen import state, wrong
from cowherd.text import command_line, counted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.doctor.finding import Finding

_SEVERAL = ("bind", "repair", "seal", "unseal", "verify", "move")
"""The commands of cowherd among the remedies that take several images."""

_LONGEST = 20
"""A remedy that names more images, or runs of numbered ones, is left to --all."""


def finding_lines(findings: Sequence[Finding], *, each: bool) -> Iterator[str]:
    """Yields the lines about findings: what is wrong, with which images, and below it the remedy; each alone if `each`."""
    for group in [[one] for one in findings] if each else alike(findings, _said_of):
        first = group[0]
        kind = f"{state('note')}: {first.kind.value}" if first.kind.is_note else wrong(first.kind.value)
        yield f"{kind}: {named([shown(one.path) for one in group])}: {first.detail}"
        if first.remedy:
            yield from _remedy_lines(group)


def _said_of(finding: Finding) -> tuple[object, ...]:
    """Returns what is said beside the name of the image: it is the same for all of a group."""
    path = finding.filename
    return finding.kind, finding.detail, tuple(None if word == path else word for word in finding.remedy)


def _remedy_lines(group: Sequence[Finding]) -> Iterator[str]:
    """Yields the command for all findings of a group, which differ at most in the image that it names; or that for the first."""
    words = list(group[0].remedy)
    path = os.fspath(group[0].path)
    if len(group) == 1 or words.count(path) != 1:
        yield f"    {command_line(words)}"
        return
    images = expanded([os.fspath(one.path) for one in group])
    if len(images) > _LONGEST:
        yield f"    {command_line(words)}"
        yield f"  and so for {counted(len(group) - 1, 'more image')}; --all has the command for each"
        return
    place = words.index(path)
    if words[0] == "cowherd" and words[1] in _SEVERAL:
        yield "    " + " ".join([command_line(words[:place]), *images, command_line(words[place + 1 :])]).rstrip()
        return
    each = " ".join('"$image"' if word == path else command_line([word]) for word in words)
    yield f"    for image in {' '.join(images)}; do {each}; done"
