"""The errors of the move from Glance.

CowherdError
    GlanceUnreadable        Glance's database did not give what it was asked for
        GlanceTablesDiffer  it has other tables
    Unfit                   the content of an image is not what its record says, or is nowhere to be read
    InvalidRequest
        GlanceDriverMissing
"""

from __future__ import annotations

from cowherd.distribution import how_to_install
from cowherd.errors import CowherdError, InvalidRequest
from cowherd.text import printable


class GlanceUnreadable(CowherdError):
    """Glance's database did not give what it was asked for. Attributes: `reason` (its words)."""

    def __init__(self, reason: str):
        self.reason = reason

    def __str__(self) -> str:
        return f"Glance's database can't be read: {printable(self.reason)}"


class GlanceTablesDiffer(GlanceUnreadable):
    """Glance's database did not answer what every one does since Rocky. Attributes: `reason` (its words)."""

    def __str__(self) -> str:
        return f"{super().__str__()}. Its tables must be those of Rocky (2018) or later: see 'glance-manage db version'"


class GlanceDriverMissing(InvalidRequest):
    """What speaks to Glance's database is not installed. Attributes: `package`."""

    def __init__(self, package: str, extra: str):
        super().__init__(f"Glance's database needs {package} to be read: {how_to_install(extra)}")
        self.package = package


class Unfit(CowherdError):
    """The content of an image can't be adopted. Attributes: `problem` (a sentence)."""

    def __init__(self, problem: str):
        self.problem = problem

    def __str__(self) -> str:
        return self.problem
