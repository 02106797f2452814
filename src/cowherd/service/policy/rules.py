"""Who may do what: one table of actions, by the names of the Image API's policies.

A rule allows an action to whoever has the role of one of its grants, for what the grant's scopes take in, with exceptions. A
caller who is refused is told so only if they may see the thing: else it is as if it weren't there.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple, Protocol

from cowherd.service.policy.personas import Caller, Persona

ADMIN, MEMBER, READER, SERVICE = Persona.ADMIN, Persona.MEMBER, Persona.READER, Persona.SERVICE


class Verdict(Enum):
    """YES; or NO, which the caller may know; or HIDDEN: for the caller there is nothing there."""

    YES = "yes"
    NO = "no"
    HIDDEN = "hidden"


class Thing(Protocol):
    """What the rules look at: an image, or a namespace of metadata definitions, whose `status` says nothing."""

    @property
    def owner(self) -> str | None:
        """The project whose it is."""

    @property
    def visibility(self) -> str:
        """Who sees it: private, shared, community, public."""

    @property
    def protected(self) -> bool:
        """Whether nobody may delete it."""

    @property
    def status(self) -> str:
        """The state of an image."""


class Scope(StrEnum):
    """What a grant takes in, in words for people."""

    ALL = "all"
    OWN = "of the caller's project"
    LENT = "lent to the caller's project"
    OPEN = "public or community"


class Grant(NamedTuple):
    """Whoever has `role` may, with what one of `scopes` takes in."""

    role: Persona
    scopes: frozenset[Scope]


class Except(StrEnum):
    """When a rule doesn't hold, in words for people."""

    PROTECTED = "protected"
    NOT_SHARED = "not shared"
    DEACTIVATED = "deactivated, unless the caller is an admin"


class Rule(NamedTuple):
    """Who may; when not; and by which action it shows whether the caller may know of the thing."""

    grants: tuple[Grant, ...]
    exceptions: tuple[Except, ...] = ()
    seen_by: str | None = None


def _grant(role: Persona, *scopes: Scope) -> Grant:
    return Grant(role, frozenset(scopes))


_ALL = _grant(ADMIN, Scope.ALL)
_BY_SERVICE = _grant(SERVICE, Scope.ALL)
_VISIBLE = (Scope.OWN, Scope.LENT, Scope.OPEN)
_ADMIN = Rule((_ALL,))
_ANY_READER = Rule((_ALL, _grant(READER, Scope.ALL)))
_IMAGE, _NAMESPACE = "get_image", "get_metadef_namespace"


def _image(*grants: Grant, exceptions: tuple[Except, ...] = ()) -> Rule:
    return Rule((_ALL, *grants), exceptions, _IMAGE)


def _namespace(*grants: Grant) -> Rule:
    return Rule((_ALL, *grants), (), _NAMESPACE)


_SEEN = _image(_grant(READER, *_VISIBLE))
_CHANGED = _image(_grant(MEMBER, Scope.OWN))
_FETCHED = _image(_grant(MEMBER, *_VISIBLE), exceptions=(Except.DEACTIVATED,))
_MEMBERS_SEEN = _image(_grant(READER, Scope.OWN, Scope.LENT), exceptions=(Except.NOT_SHARED,))
_MEMBERS_CHANGED = _image(_grant(MEMBER, Scope.OWN), exceptions=(Except.NOT_SHARED,))
_DEFINITIONS_SEEN = _namespace(_grant(READER, Scope.OWN, Scope.OPEN))
_DEFINITIONS_CHANGED = _namespace()

RULES: dict[str, Rule] = {
    "get_images": _ANY_READER,
    "get_image": _SEEN,
    "add_image": Rule((_ALL, _grant(MEMBER, Scope.OWN))),  # the image as it shall be: only an admin makes one for another project
    "modify_image": _CHANGED,
    "delete_image": _image(_grant(MEMBER, Scope.OWN), exceptions=(Except.PROTECTED,)),
    "publicize_image": _image(),
    "communitize_image": _CHANGED,
    "upload_image": _CHANGED,
    "download_image": _FETCHED,
    "copy_image": _image(),
    "deactivate": _CHANGED,
    "reactivate": _CHANGED,
    "get_image_location": _image(_grant(READER, Scope.OWN)),
    "set_image_location": _CHANGED,
    "delete_image_location": _image(),
    "add_image_location": _image(_grant(MEMBER, Scope.OWN), _BY_SERVICE),
    "fetch_image_location": _image(_grant(SERVICE, *_VISIBLE)),
    "get_members": _MEMBERS_SEEN,
    "get_member": _MEMBERS_SEEN,
    "add_member": _MEMBERS_CHANGED,
    "delete_member": _MEMBERS_CHANGED,
    "modify_member": _image(_grant(MEMBER, Scope.LENT), exceptions=(Except.NOT_SHARED,)),
    "get_lineage": _SEEN,
    "make_standalone": _FETCHED,
    "tasks_api_access": _ADMIN,
    "get_usage": _ANY_READER,
    "stores_info_detail": Rule((_ALL, _BY_SERVICE)),
    "cache_image": _ADMIN,
    "cache_list": _ADMIN,
    "cache_delete": _ADMIN,
    "cache_clean": _ADMIN,
    "cache_prune": _ADMIN,
    "list_cached_nodes": _ADMIN,
    "see_service": _ADMIN,  # the page, metrics, events
    "get_metadef_namespaces": _ANY_READER,
    "get_metadef_namespace": _DEFINITIONS_SEEN,
    "get_metadef_object": _DEFINITIONS_SEEN,
    "get_metadef_objects": _DEFINITIONS_SEEN,
    "get_metadef_property": _DEFINITIONS_SEEN,
    "get_metadef_properties": _DEFINITIONS_SEEN,
    "get_metadef_tag": _DEFINITIONS_SEEN,
    "get_metadef_tags": _DEFINITIONS_SEEN,
    "get_metadef_resource_type": _DEFINITIONS_SEEN,
    "list_metadef_resource_types": _ANY_READER,
    "add_metadef_namespace": _ADMIN,
    "modify_metadef_namespace": _DEFINITIONS_CHANGED,
    "delete_metadef_namespace": _DEFINITIONS_CHANGED,
    "add_metadef_object": _DEFINITIONS_CHANGED,
    "modify_metadef_object": _DEFINITIONS_CHANGED,
    "delete_metadef_object": _DEFINITIONS_CHANGED,
    "add_metadef_property": _DEFINITIONS_CHANGED,
    "modify_metadef_property": _DEFINITIONS_CHANGED,
    "remove_metadef_property": _DEFINITIONS_CHANGED,
    "add_metadef_tag": _DEFINITIONS_CHANGED,
    "add_metadef_tags": _DEFINITIONS_CHANGED,
    "modify_metadef_tag": _DEFINITIONS_CHANGED,
    "delete_metadef_tag": _DEFINITIONS_CHANGED,
    "delete_metadef_tags": _DEFINITIONS_CHANGED,
    "add_metadef_resource_type_association": _DEFINITIONS_CHANGED,
    "remove_metadef_resource_type_association": _DEFINITIONS_CHANGED,
}
"""The rules by the actions that they are for."""


def may(action: str, caller: Caller, thing: Thing | None = None, *, lent: bool = False) -> Verdict:
    """Tells whether a caller may do `action`, with `thing` where the action is done with one.

    `lent` says that the image is lent to the caller's project, be that accepted, pending or rejected; of an action with one
    member, that this member is the caller's project. Raises KeyError for an action that has no rule.
    """
    rule = RULES[action]
    if _granted(rule, caller, thing, lent) and not any(_holds(one, caller, thing) for one in rule.exceptions):
        return Verdict.YES
    if rule.seen_by is None or (action != rule.seen_by and may(rule.seen_by, caller, thing, lent=lent) is Verdict.YES):
        return Verdict.NO
    return Verdict.HIDDEN


def _granted(rule: Rule, caller: Caller, thing: Thing | None, lent: bool) -> bool:
    scopes = _scopes(caller, thing, lent)
    return any(caller.has(grant.role) and grant.scopes & scopes for grant in rule.grants)


def _scopes(caller: Caller, thing: Thing | None, lent: bool) -> set[Scope]:
    """Returns the scopes that take `thing` in."""
    found = {Scope.ALL}
    if thing is not None and caller.project is not None and thing.owner == caller.project:
        found.add(Scope.OWN)
    if thing is not None and thing.visibility in ("public", "community"):
        found.add(Scope.OPEN)
    if thing is not None and thing.visibility == "shared" and lent:
        found.add(Scope.LENT)
    return found


def _holds(exception: Except, caller: Caller, thing: Thing | None) -> bool:
    if thing is None:
        return False
    if exception is Except.PROTECTED:
        return thing.protected
    if exception is Except.NOT_SHARED:
        return thing.visibility != "shared"
    return thing.status == "deactivated" and not caller.has(ADMIN)
