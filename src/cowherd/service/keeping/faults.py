"""The errors of the keeping.

CowherdError
    ContentDamaged      no store has what is asked for as it was
"""

from __future__ import annotations

from cowherd.errors import CowherdError


class ContentDamaged(CowherdError):
    """No store has a blob, or the part of it that is asked for, as it was. Attributes: `digest`, `problem` (a sentence)."""

    exit_code = 4

    def __init__(self, digest: str, problem: str):
        self.digest, self.problem = digest, problem

    def __str__(self) -> str:
        return self.problem
