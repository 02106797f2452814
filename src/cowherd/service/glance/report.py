"""What became of each image and each namespace of a Glance."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Result(StrEnum):
    """What became of an image: `ADOPTED` with its content, `RECORDED` without any, as in Glance, or `WAITING` for content that
    could not be adopted; `KNOWN` from before, `DELETED` here since; or `FAILED`, as its record can't be kept."""

    ADOPTED = "adopted"
    RECORDED = "recorded"
    WAITING = "waiting"
    KNOWN = "known"
    DELETED = "deleted"
    FAILED = "failed"


class Outcome(NamedTuple):
    """What became of one image: its id and name, its state in Glance, and what does not fit, as a sentence.

    `how` says in which way the store got the content, `size` is its bytes.
    """

    image: str
    name: str | None
    status: str
    result: Result
    how: str | None = None
    size: int | None = None
    problem: str | None = None


class NamespaceOutcome(NamedTuple):
    """What became of one namespace of the metadata definitions, with all that is in it."""

    namespace: str
    result: Result
    problem: str | None = None


class Adopted(NamedTuple):
    """What became of all. `is_dry`: it is what would become of them, and nothing was changed."""

    images: tuple[Outcome, ...]
    namespaces: tuple[NamespaceOutcome, ...]
    is_dry: bool

    @property
    def problems(self) -> int:
        """How many do not fit."""
        problems = (*(one.problem for one in self.images), *(one.problem for one in self.namespaces))
        return sum(one is not None for one in problems)
