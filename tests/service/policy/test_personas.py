"""Personas: the strongest role, and what it includes."""

from __future__ import annotations

import pytest

from cowherd.service.policy.personas import NOBODY, Caller, Persona


@pytest.mark.parametrize(
    ("roles", "persona", "included"),
    [
        ({"admin"}, Persona.ADMIN, {"admin", "manager", "member", "reader"}),
        ({"manager"}, Persona.MANAGER, {"manager", "member", "reader"}),
        ({"member", "reader"}, Persona.MEMBER, {"member", "reader"}),
        ({"reader"}, Persona.READER, {"reader"}),
        ({"service"}, Persona.SERVICE, {"service"}),
        ({"service", "reader"}, Persona.READER, {"service", "reader"}),
        ({"Admin", "gardener"}, Persona.NOBODY, set()),
        (set(), Persona.NOBODY, set()),
    ],
)
def test_the_strongest_role_counts_and_includes_the_weaker(roles, persona, included):
    caller = Caller("u", "p", frozenset(roles))
    assert caller.persona is persona
    assert {one.value for one in Persona if caller.has(one)} == included


def test_nobody_has_nothing():
    assert NOBODY.persona is Persona.NOBODY
    assert (NOBODY.user, NOBODY.project) == (None, None)
