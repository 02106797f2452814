"""Who asks: the users behind the names that the scenes use, and what stands for a forged token."""

from __future__ import annotations

from collections.abc import Mapping

from tests.openstack.identity import Identity
from tests.openstack.recorder.play import Target

_USERS = {
    "admin": ("admin", "admin"),
    "member": ("demo", "demo"),
    "reader": ("reader", "demo"),
    "alt": ("alt_demo", "alt_demo"),
    "service": ("compute", "service"),
}
FORGED = "a-token-that-nobody-gave"
_PROJECT, _ALT, _ADMINISTRATORS = "project-of-the-member", "another-project", "project-of-administrators"
# The same, where the service knows its callers by tokens of its own: project and role of each.
PERSONAS = {
    "admin": (_ADMINISTRATORS, "admin"),
    "member": (_PROJECT, "member"),
    "reader": (_PROJECT, "reader"),
    "alt": (_ALT, "member"),
    "service": ("project-of-services", "service"),
}


def asked_with_keystone(url: str, identity: Identity, web_port: int) -> Target:
    """Returns a service whose callers have tokens of this keystone."""
    tokens = {name: identity.token_of(user, project) for name, (user, project) in _USERS.items()}
    names = {
        "project": identity.find("projects", "demo"),
        "alt_project": identity.find("projects", "alt_demo"),
        "admin_project": identity.find("projects", "admin"),
        "member_user": identity.find("users", "demo"),
        "host": url,
        "keystone": identity.url,
        "web": f"http://127.0.0.1:{web_port}",
    }
    return Target(url, {**tokens, "forged": FORGED}, names)


def asked_with_tokens(url: str, tokens: Mapping[str, str], web_port: int) -> Target:
    """Returns a service whose callers are those of `PERSONAS`, known by tokens of its own file."""
    names = {
        "project": _PROJECT,
        "alt_project": _ALT,
        "admin_project": _ADMINISTRATORS,
        "member_user": "user-member",
        "host": url,
        "web": f"http://127.0.0.1:{web_port}",
    }
    return Target(url, {**tokens, "forged": FORGED}, names)
