"""Metadata definitions: namespaces, and what is in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from cowherd.service.records.faults import DefinitionExists, DefinitionNotFound, Unstorable
from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    create_definition,
    delete_definition,
    delete_definitions,
    list_definitions,
    list_namespaces,
    read_definition,
    update_definition,
)
from cowherd.service.records.pages import Viewer

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def namespace(connection, name: str, hours: int = 0, **facts) -> Definition:
    facts = {"owner": "p", "visibility": "private", **facts}
    found = Definition(kind=Kind.NAMESPACE, namespace=name, name=name, created_at=FIRST + timedelta(hours=hours), **facts)
    create_definition(connection, found)
    return found


def tag(connection, within: str, name: str, kind: Kind = Kind.TAG) -> Definition:
    found = Definition(kind=kind, namespace=within, name=name, body={"type": "string", "items": [1, None]})
    create_definition(connection, found)
    return found


def names(definitions) -> list[str]:
    return [one.name for one in definitions]


def test_a_definition_is_read_as_it_was_recorded(connection):
    outer = namespace(connection, "n\n/%", body={"protected": True})
    inner = tag(connection, "n\n/%", "t")
    assert read_definition(connection, Kind.NAMESPACE, "n\n/%", "n\n/%") == outer
    assert read_definition(connection, Kind.TAG, "n\n/%", "t") == inner


def test_a_name_is_given_once_of_a_kind_and_namespace(connection):
    for name in ("n", "m"):
        namespace(connection, name)
        tag(connection, name, "t")
        tag(connection, name, "t", Kind.OBJECT)
    with pytest.raises(DefinitionExists):
        tag(connection, "n", "t")
    with pytest.raises(DefinitionExists):
        namespace(connection, "n")


def test_nothing_is_defined_in_a_namespace_that_is_not_there(connection):
    with pytest.raises(DefinitionNotFound):
        tag(connection, "none", "t")
    create_definition(connection, Definition(kind=Kind.RESOURCE_TYPE, namespace="", name="OS::Glance::Image"))
    assert names(list_definitions(connection, Kind.RESOURCE_TYPE, "")) == ["OS::Glance::Image"]


def test_a_definition_changes_and_keeps_its_age(connection):
    before = namespace(connection, "n")
    tag(connection, "n", "t")
    after = update_definition(connection, Kind.NAMESPACE, "n", "n", replace(before, visibility="public", body={"a": 1}))
    assert (after.visibility, after.body, after.created_at) == ("public", {"a": 1}, FIRST)
    assert after.updated_at > before.updated_at
    assert names(list_definitions(connection, Kind.TAG, "n")) == ["t"]


def test_a_renamed_namespace_takes_along_what_is_in_it(connection):
    before = namespace(connection, "n")
    tag(connection, "n", "t")
    update_definition(connection, Kind.NAMESPACE, "n", "n", replace(before, namespace="m", name="m"))
    assert names(list_definitions(connection, Kind.TAG, "m")) == ["t"]
    assert names(list_namespaces(connection, Viewer("p"))) == ["m"]
    with pytest.raises(DefinitionNotFound):
        read_definition(connection, Kind.NAMESPACE, "n", "n")


def test_a_new_name_must_be_free(connection):
    before = namespace(connection, "n")
    tag(connection, "n", "t")
    other = tag(connection, "n", "u")
    namespace(connection, "m")
    with pytest.raises(DefinitionExists):
        update_definition(connection, Kind.NAMESPACE, "n", "n", replace(before, namespace="m", name="m"))
    with pytest.raises(DefinitionExists):
        update_definition(connection, Kind.TAG, "n", "u", replace(other, name="t"))
    assert update_definition(connection, Kind.TAG, "n", "u", replace(other, name="v")).name == "v"


def test_what_is_not_there_does_not_change(connection):
    with pytest.raises(DefinitionNotFound):
        update_definition(connection, Kind.TAG, "n", "t", Definition(kind=Kind.TAG, namespace="n", name="t"))
    with pytest.raises(DefinitionNotFound):
        delete_definition(connection, Kind.TAG, "n", "t")


def test_a_deleted_namespace_leaves_nothing_of_its_own(connection):
    for name in ("n", "m"):
        namespace(connection, name)
        tag(connection, name, "t")
    delete_definition(connection, Kind.NAMESPACE, "n", "n")
    assert list_definitions(connection, Kind.TAG, "n") == []
    assert names(list_definitions(connection, Kind.TAG, "m")) == ["t"]


def test_all_of_a_kind_are_deleted_at_once(connection):
    namespace(connection, "n")
    for name in "ab":
        tag(connection, "n", name)
    tag(connection, "n", "a", Kind.OBJECT)
    assert delete_definitions(connection, Kind.TAG, "n") == ["a", "b"]
    assert names(list_definitions(connection, Kind.OBJECT, "n")) == ["a"]


@pytest.fixture
def vocabulary(connection):
    namespace(connection, "a", 0)
    namespace(connection, "b", 1, visibility="public")
    namespace(connection, "c", 2, owner="q")
    namespace(connection, "d", 3, owner="q", visibility="public")
    for name in "bd":
        tag(connection, name, "OS::Nova::Flavor", Kind.ASSOCIATION)
    return connection


@pytest.mark.parametrize(
    ("viewer", "asked", "found"),
    [
        (Viewer("p"), {}, "dba"),
        (Viewer("q"), {}, "dcb"),
        (Viewer(None), {}, "db"),
        (Viewer("x", everything=True), {}, "dcba"),
        (Viewer("p"), {"visibility": "private"}, "a"),
        (Viewer("p"), {"visibility": "public"}, "db"),
        (Viewer("x", everything=True), {"resource_types": ["OS::Nova::Flavor", "x"]}, "db"),
        (Viewer("x", everything=True), {"resource_types": ["x"]}, ""),
        (Viewer("p"), {"marker": "d", "limit": 1}, "b"),
        (Viewer("p"), {"marker": "a"}, ""),
    ],
)
def test_namespaces_that_a_viewer_sees(vocabulary, viewer, asked, found):
    assert names(list_namespaces(vocabulary, viewer, **asked)) == list(found)


def test_a_marker_must_be_a_namespace(vocabulary):
    with pytest.raises(DefinitionNotFound):
        list_namespaces(vocabulary, Viewer("p"), marker="none")


def test_a_name_that_can_not_be_stored_is_refused(connection):
    with pytest.raises(Unstorable):
        namespace(connection, "x" * 256)
