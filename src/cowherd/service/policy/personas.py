"""Who asks: a user of a project, with roles there. The strongest role makes the persona."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Persona(StrEnum):
    """What somebody is to the service, strongest first; each of the first four may do all that those below it may."""

    ADMIN = "admin"
    MANAGER = "manager"
    MEMBER = "member"
    READER = "reader"
    SERVICE = "service"
    NOBODY = "nobody"


_LADDER = (Persona.ADMIN, Persona.MANAGER, Persona.MEMBER, Persona.READER)


class Caller(NamedTuple):
    """A user, the project that the user acts for, and the roles that the user has there; None where there is none."""

    user: str | None
    project: str | None
    roles: frozenset[str]

    @property
    def persona(self) -> Persona:
        """What the caller is to the service."""
        return next((persona for persona in (*_LADDER, Persona.SERVICE) if persona in self.roles), Persona.NOBODY)

    def has(self, role: Persona) -> bool:
        """Tells whether the caller has `role`, or one that includes it."""
        if role not in _LADDER:
            return role in self.roles
        return any(one in self.roles for one in _LADDER[: _LADDER.index(role) + 1])


NOBODY = Caller(None, None, frozenset())
"""Somebody of whom nothing is known."""
