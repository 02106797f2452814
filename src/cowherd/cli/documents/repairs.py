"""The documents of the commands that put right."""

from __future__ import annotations

from typing import Literal, TypedDict

from cowherd.cli.documents.shared import Bytes, Path, Problem, Ranges, Time


class Donor(TypedDict):
    """An image that holds old content."""

    path: Path  #: the image
    bytes: Bytes  #: how much it gives


class Write(TypedDict):
    """What is written to an image."""

    path: Path  #: the image
    bytes: Bytes  #: how much
    ranges: Ranges  #: where


class Repaired(TypedDict):
    """A base that was brought back, or whose overlays were given what it lost."""

    base: Path  #: the base
    preserve: bool  #: whether the base stays as it has become
    gone: bool  #: whether it was gone
    changed: Ranges  #: where it differed
    changed_bytes: Bytes  #: how much differed
    size: Bytes  #: the size of its disk before
    sealed_size: Bytes  #: the size that its seal records
    donors: list[Donor]  #: where the old content came from
    zero_bytes: Bytes  #: how much of it is zeros
    writes: list[Write]  #: what was written, or would be
    done: bool  #: false: --dry-run
    left: list[Problem]  #: what could not be brought up to date


class RecoveredMerge(TypedDict):
    """A merge that was interrupted."""

    journal: Path  #: its journal
    overlay: Path | None  #: what was merged
    base: Path | None  #: into what
    outcome: Literal["finished", "taken back", "failed"]  #: how it ended now
    left: list[Problem]  #: what could not be brought up to date
    error: str | None  #: why it failed


class Recovered(TypedDict):
    """All merges that were interrupted."""

    merges: list[RecoveredMerge]  #: each of them


class TrashedImage(TypedDict):
    """A deleted image."""

    path: Path  #: where it was
    id: str  #: names it in the trash
    deleted: Time  #: when
    disk_size: Bytes  #: what its file takes
    dependents: list[Path]  #: what stood on it


class Trashed(TypedDict):
    """The answer to `trash list`."""

    images: list[TrashedImage]  #: newest first


class RestoredImage(TypedDict):
    """An image that is back."""

    path: Path  #: where it is
    sealed: bool  #: whether its seal holds
    base_problem: str | None  #: why its base can't be followed


class Restored(TypedDict):
    """The answer to `trash restore`."""

    images: list[RestoredImage]  #: each of them


class Emptied(TypedDict):
    """The answer to `trash empty`."""

    images: list[TrashedImage]  #: what was removed, or would be
    done: bool  #: false: --dry-run
