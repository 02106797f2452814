"""The documents of the commands that work with overlays."""

from __future__ import annotations

from typing import Literal, TypedDict

from cowherd.cli.documents.repairs import Write
from cowherd.cli.documents.shared import Bytes, Digest, Hit, Level, Path, Problem, Ranges


class Cloned(TypedDict):
    """An overlay that was made."""

    overlay: Path  #: the overlay
    base: Path  #: what it stands on
    backing_file: str  #: the name that it records
    backing_format: str | None  #: the format that it records
    size: Bytes  #: the size of its disk
    bound: bool  #: whether it has a binding
    content_digest: Digest | None  #: that of what it is bound to
    sealed_now: bool  #: whether its base was sealed for it


class Cost(TypedDict):
    """What a strategy costs."""

    written_bytes: Bytes  #: what it writes
    growth_bytes: Bytes  #: how much files grow by
    read_bytes: Bytes  #: what it reads
    files: int  #: how many files it writes to
    seconds: float  #: about how long it takes


class Costs(TypedDict):
    """What each strategy costs."""

    preserve: Cost  #: others are given what they would lose
    fork: Cost  #: a copy of the base takes the changes


class Merged(TypedDict):
    """An overlay whose content is in its base."""

    overlay: Path  #: the overlay
    base: Path  #: what took its content
    between: list[Path]  #: the images of its chain between both
    strategy: Literal["preserve", "fork"]  #: how the others were kept
    keep: Literal["nothing", "empty", "content"]  #: what is left of the overlay
    changed: Ranges  #: what it holds
    changed_bytes: Bytes  #: how much that is
    size: Bytes  #: the size of the base's disk before
    new_size: Bytes  #: and afterwards
    new_base: Path | None  #: the copy, with `fork`
    dependents: list[Hit]  #: what a plain commit would do to the others
    writes: list[Write]  #: what the others were given, or would be
    unreadable: list[Path]  #: what could not be looked at
    costs: Costs  #: of each strategy
    done: bool  #: false: --dry-run
    left: list[Problem]  #: what could not be brought up to date


class Promoted(TypedDict):
    """A base that was made of a machine's disk."""

    base: Path  #: the base
    content_digest: Digest  #: that of its content
    level: Level  #: how well it is protected
    overlay: Path | None  #: with `--chained`, the new overlay in the place of the disk
    copied_bytes: Bytes  #: how much was copied


class Rebased(TypedDict):
    """An overlay that stands on something else now."""

    overlay: Path  #: the overlay
    base: Path | None  #: what it stands on; null: it stands alone
    read_bytes: Bytes  #: how much was compared
    written_bytes: Bytes  #: how much was written, or would be at most
    done: bool  #: false: --dry-run


class Retargeted(TypedDict):
    """The answer to `retarget`."""

    overlays: list[Rebased]  #: each of them
