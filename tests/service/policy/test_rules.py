"""The rules, as a matrix: every action, by every persona, with every kind of image."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from cowherd.service.policy.personas import NOBODY, Caller
from cowherd.service.policy.rules import RULES, Verdict, may


class Image(NamedTuple):
    visibility: str = "private"
    lent: bool = False
    protected: bool = False
    os_hidden: bool = False
    status: str = "active"
    owner: str | None = "owner"


KINDS = {
    "private": Image(),
    "shared with others": Image("shared"),
    "lent": Image("shared", lent=True),  # accepted, pending or rejected: the tests of the web ask for each
    "community": Image("community"),
    "public": Image("public"),
    "hidden": Image(os_hidden=True),
    "hidden public": Image("public", os_hidden=True),
    "protected": Image(protected=True),
    "protected public": Image("public", protected=True),
    "deactivated": Image(status="deactivated"),
    "deactivated public": Image("public", status="deactivated"),
    "lent of nobody's": Image("shared", lent=True, owner=None),
}

# Admins and services stand in projects of their own; `other` is the project that images are lent to.
CALLERS = {
    "admin": Caller("a", "admins", frozenset({"admin"})),
    "admin without a project": Caller(None, None, frozenset({"admin"})),
    "manager": Caller("m", "owner", frozenset({"manager"})),
    "member": Caller("m", "owner", frozenset({"member"})),
    "reader": Caller("r", "owner", frozenset({"reader"})),
    "other member": Caller("o", "other", frozenset({"member"})),
    "other reader": Caller("o", "other", frozenset({"reader"})),
    "service": Caller("s", "service", frozenset({"service"})),
    "no role": Caller("x", "owner", frozenset()),
    "nobody": NOBODY,
}

LETTERS = {"y": Verdict.YES, "n": Verdict.NO, ".": Verdict.HIDDEN}

# A letter for each of KINDS, in their order: y yes, n no, . hidden. Who isn't named is as "nobody".
MATRIX = {
    "get_image get_lineage": {
        "admin": "yyyyyyyyyyyy",
        "manager": "yyyyyyyyyyy.",
        "member": "yyyyyyyyyyy.",
        "reader": "yyyyyyyyyyy.",
        "other member": "..yyy.y.y.yy",
        "other reader": "..yyy.y.y.yy",
        "nobody": "............",
    },
    "modify_image upload_image communitize_image deactivate reactivate set_image_location": {
        "admin": "yyyyyyyyyyyy",
        "manager": "yyyyyyyyyyy.",
        "member": "yyyyyyyyyyy.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..nnn.n.n.nn",
        "other reader": "..nnn.n.n.nn",
        "nobody": "............",
    },
    "delete_image": {
        "admin": "yyyyyyynnyyy",
        "manager": "yyyyyyynnyy.",
        "member": "yyyyyyynnyy.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..nnn.n.n.nn",
        "other reader": "..nnn.n.n.nn",
        "nobody": "............",
    },
    "download_image make_standalone": {
        "admin": "yyyyyyyyyyyy",
        "manager": "yyyyyyyyynn.",
        "member": "yyyyyyyyynn.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..yyy.y.y.ny",
        "other reader": "..nnn.n.n.nn",
        "nobody": "............",
    },
    "publicize_image copy_image delete_image_location": {
        "admin": "yyyyyyyyyyyy",
        "manager": "nnnnnnnnnnn.",
        "member": "nnnnnnnnnnn.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..nnn.n.n.nn",
        "other reader": "..nnn.n.n.nn",
        "nobody": "............",
    },
    "get_image_location": {
        "admin": "yyyyyyyyyyyy",
        "manager": "yyyyyyyyyyy.",
        "member": "yyyyyyyyyyy.",
        "reader": "yyyyyyyyyyy.",
        "other member": "..nnn.n.n.nn",
        "other reader": "..nnn.n.n.nn",
        "nobody": "............",
    },
    "add_image_location": {
        "admin": "yyyyyyyyyyyy",
        "manager": "yyyyyyyyyyy.",
        "member": "yyyyyyyyyyy.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..nnn.n.n.nn",
        "other reader": "..nnn.n.n.nn",
        "service": "yyyyyyyyyyyy",
        "nobody": "............",
    },
    "fetch_image_location": {
        "admin": "yyyyyyyyyyyy",
        "manager": "nnnnnnnnnnn.",
        "member": "nnnnnnnnnnn.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..nnn.n.n.nn",
        "other reader": "..nnn.n.n.nn",
        "service": "...yy.y.y.y.",
        "nobody": "............",
    },
    "get_members get_member": {
        "admin": "nyynnnnnnnny",
        "manager": "nyynnnnnnnn.",
        "member": "nyynnnnnnnn.",
        "reader": "nyynnnnnnnn.",
        "other member": "..ynn.n.n.ny",
        "other reader": "..ynn.n.n.ny",
        "nobody": "............",
    },
    "add_member delete_member": {
        "admin": "nyynnnnnnnny",
        "manager": "nyynnnnnnnn.",
        "member": "nyynnnnnnnn.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..nnn.n.n.nn",
        "other reader": "..nnn.n.n.nn",
        "nobody": "............",
    },
    "modify_member": {
        "admin": "nyynnnnnnnny",
        "manager": "nnnnnnnnnnn.",
        "member": "nnnnnnnnnnn.",
        "reader": "nnnnnnnnnnn.",
        "other member": "..ynn.n.n.ny",
        "other reader": "..nnn.n.n.nn",
        "nobody": "............",
    },
    "add_image": {
        "admin": "yyyyyyyyyyyy",
        "manager": "yyyyyyyyyyyn",
        "member": "yyyyyyyyyyyn",
        "nobody": "nnnnnnnnnnnn",
    },
}

# What is done with no one image: who may; all others may not, and know it.
WITHOUT = {
    "get_images get_usage get_metadef_namespaces list_metadef_resource_types": {
        "admin",
        "admin without a project",
        "manager",
        "member",
        "reader",
        "other member",
        "other reader",
    },
    "tasks_api_access cache_image cache_list cache_delete cache_clean cache_prune list_cached_nodes see_service": {
        "admin",
        "admin without a project",
    },
    "add_metadef_namespace": {"admin", "admin without a project"},
    "stores_info_detail": {"admin", "admin without a project", "service"},
}

SEE_DEFINITIONS = (
    "get_metadef_namespace get_metadef_object get_metadef_objects get_metadef_property get_metadef_properties "
    "get_metadef_tag get_metadef_tags get_metadef_resource_type"
)
CHANGE_DEFINITIONS = (
    "modify_metadef_namespace delete_metadef_namespace add_metadef_object modify_metadef_object delete_metadef_object "
    "add_metadef_property modify_metadef_property remove_metadef_property add_metadef_tag add_metadef_tags modify_metadef_tag "
    "delete_metadef_tag delete_metadef_tags add_metadef_resource_type_association remove_metadef_resource_type_association"
)


def letters(action: str, name: str) -> str:
    """What the rules say of every kind of image."""
    caller = CALLERS[name]
    found = ""
    for image in KINDS.values():
        verdict = may(action, caller, image, lent=image.lent and caller.project == "other")
        found += next(letter for letter, one in LETTERS.items() if one is verdict)
    return found


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("action", " ".join(MATRIX).split())
def test_an_action_with_an_image(action, name):
    expected = next(rows for actions, rows in MATRIX.items() if action in actions.split())
    same = "admin" if name.startswith("admin") else name
    assert letters(action, name) == expected.get(same, expected["nobody"])


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("action", " ".join(WITHOUT).split())
def test_an_action_without_an_image(action, name):
    allowed = next(names for actions, names in WITHOUT.items() if action in actions.split())
    assert may(action, CALLERS[name]) is (Verdict.YES if name in allowed else Verdict.NO)


@pytest.mark.parametrize(
    ("name", "seen", "changed"),
    [
        ("admin", "yy", "yy"),
        ("manager", "yy", "nn"),
        ("member", "yy", "nn"),
        ("reader", "yy", "nn"),
        ("other member", ".y", ".n"),
        ("other reader", ".y", ".n"),
        ("service", "..", ".."),
        ("nobody", "..", ".."),
    ],
)
def test_an_action_with_definitions(name, seen, changed):
    for actions, expected in ((SEE_DEFINITIONS, seen), (CHANGE_DEFINITIONS, changed)):
        for action in actions.split():
            for namespace, letter in zip((Image("private"), Image("public")), expected, strict=True):
                assert may(action, CALLERS[name], namespace) is LETTERS[letter], action


def test_every_action_is_in_the_matrix():
    tested = " ".join([*MATRIX, *WITHOUT, SEE_DEFINITIONS, CHANGE_DEFINITIONS]).split()
    assert sorted(tested) == sorted(RULES)


def test_an_image_of_no_project_is_not_that_of_a_caller_without_one():
    caller = Caller("u", None, frozenset({"member"}))
    assert may("get_image", caller, Image(owner=None)) is Verdict.HIDDEN


def test_an_unknown_action_is_an_error():
    with pytest.raises(KeyError):
        may("get_imges", CALLERS["admin"])
