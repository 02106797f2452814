"""The report of an inspection: named checks, collected into one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    """The policy does not refuse it, but the user should know."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """It could not be checked: a stream can't be read twice."""


@dataclass(frozen=True)
class Check:
    """One named check. `detail` says what was found; names from the image are escaped in it."""

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

    `format` is the format that was inspected. `virtual_size`, `file_size` and `expands_to` (the size of all compressed clusters
    when decompressed) are bytes, None if unknown.
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
        """Whether everything could be checked."""
        return all(check.outcome is not Outcome.UNKNOWN for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd inspect --json` prints them, but for the name of the image."""
        return {
            "format": self.format,
            "policy": self.policy,
            "safe": self.safe,
            "complete": self.complete,
            "virtual_size": self.virtual_size,
            "file_size": self.file_size,
            "expands_to": self.expands_to,
            "checks": [{"name": check.name, "outcome": check.outcome.value, "detail": check.detail} for check in self.checks],
        }


def ok(name: str, detail: str = "") -> Check:
    """Returns a check without a complaint."""
    return Check(name, Outcome.OK, detail)


def note(name: str, detail: str) -> Check:
    """Returns a check with something that the user should know."""
    return Check(name, Outcome.NOTE, detail)


def refuse(name: str, detail: str) -> Check:
    """Returns a check that refuses the image."""
    return Check(name, Outcome.REFUSED, detail)


def unknown(name: str, detail: str) -> Check:
    """Returns a check that could not be made."""
    return Check(name, Outcome.UNKNOWN, detail)


def judge(name: str, problem: str | None, detail: str = "") -> Check:
    """Returns a refusal if there is a problem, else a check without a complaint."""
    return ok(name, detail) if problem is None else refuse(name, problem)
