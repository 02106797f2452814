"""What an inspection found: named checks, collected into one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    """Nothing that the policy refuses, but worth knowing."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """It could not be checked: of a stream only what passes by can be."""


@dataclass(frozen=True)
class Check:
    """One named check. `detail` says what was found, without names from the image unescaped."""

    name: str
    outcome: Outcome
    detail: str = ""

    @property
    def refused(self) -> bool:
        """Whether the image must not be used under the policy."""
        return self.outcome is Outcome.REFUSED


@dataclass(frozen=True)
class Inspection:
    """The checks of one image in the order in which they were made.

    `format` is the format that was inspected. `virtual_size`, `file_size` and `expands_to` (what all compressed clusters take
    once decompressed) are bytes, None where they are not known.
    """

    format: str
    policy: str
    checks: tuple[Check, ...]
    virtual_size: int | None = None
    file_size: int | None = None
    expands_to: int | None = None

    @property
    def safe(self) -> bool:
        """Whether no check refused the image."""
        return not self.refused

    @property
    def refused(self) -> tuple[Check, ...]:
        """The checks that refused the image."""
        return tuple(check for check in self.checks if check.refused)

    @property
    def complete(self) -> bool:
        """Whether there is nothing that could not be checked."""
        return all(check.outcome is not Outcome.UNKNOWN for check in self.checks)


def ok(name: str, detail: str = "") -> Check:
    """A check with nothing to complain about."""
    return Check(name, Outcome.OK, detail)


def note(name: str, detail: str) -> Check:
    """A check with something worth knowing."""
    return Check(name, Outcome.NOTE, detail)


def refuse(name: str, detail: str) -> Check:
    """A check that refuses the image."""
    return Check(name, Outcome.REFUSED, detail)


def unknown(name: str, detail: str) -> Check:
    """A check that could not be made."""
    return Check(name, Outcome.UNKNOWN, detail)


def judge(name: str, problem: str | None, detail: str = "") -> Check:
    """Returns a refusal if there is a problem."""
    return ok(name, detail) if problem is None else refuse(name, problem)
