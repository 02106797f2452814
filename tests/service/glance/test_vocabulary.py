"""Metadata definitions are adopted with all that is in their namespaces, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime

from cowherd.service.glance.report import NamespaceOutcome, Result
from cowherd.service.keeping.definitions import read_copy
from cowherd.service.records.columns import LONGEST_KEY
from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    all_definitions,
    create_definition,
    list_definitions,
    read_definition,
)

CREATED = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
UPDATED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_namespace_is_as_it_was_in_glance(glance, adopt, database):
    glance.namespace("N")
    assert adopt().namespaces == (NamespaceOutcome("N", Result.ADOPTED),)
    with database.read() as connection:
        found = {kind: list_definitions(connection, kind, "N") for kind in Kind if kind is not Kind.RESOURCE_TYPE}
        (kind,) = list_definitions(connection, Kind.RESOURCE_TYPE, "")
    assert kind.name == "OS::N"
    assert {str(kind): [(one.name, one.body) for one in ones] for kind, ones in found.items()} == {
        "namespace": [("N", {"display_name": "Shown", "protected": True})],
        "object": [("o", {"required": ["q", "r"], "properties": {"q": {"type": "integer", "title": "Q"}}})],
        "property": [("p", {"type": "string", "title": "P"})],
        "tag": [("t", {})],
        "association": [("OS::N", {"prefix": "hw_"})],
    }
    (namespace,) = found[Kind.NAMESPACE]
    assert (namespace.owner, namespace.visibility) == ("admin", "public")
    assert {(one.created_at, one.updated_at) for ones in found.values() for one in ones} == {(CREATED, UPDATED)}


def test_a_number_as_default_is_text_as_glance_shows_it(glance, adopt, database):
    number = glance.namespace("N")
    glance.insert("metadef_properties", namespace_id=number, name="n", json_schema='{"type": "integer", "default": 8}')
    adopt()
    with database.read() as connection:
        assert read_definition(connection, Kind.PROPERTY, "N", "n").body["default"] == "8"


def test_a_namespace_that_is_known_stays_as_it_is(glance, adopt, database):
    with database.write() as connection:
        create_definition(connection, Definition(kind=Kind.NAMESPACE, namespace="N", name="N", owner="ours"))
    glance.namespace("N")
    assert adopt().namespaces == (NamespaceOutcome("N", Result.KNOWN),)
    with database.read() as connection:
        assert read_definition(connection, Kind.NAMESPACE, "N", "N").owner == "ours"
        assert list_definitions(connection, Kind.TAG, "N") == []


def test_a_namespace_that_can_not_be_kept_is_told_and_nothing_of_it_is_there(glance, adopt, database):
    number = glance.namespace("N")
    glance.insert("metadef_tags", namespace_id=number, name="x" * (LONGEST_KEY + 1))
    (outcome,) = adopt().namespaces
    assert outcome.result == Result.FAILED
    assert "characters" in outcome.problem
    with database.read() as connection:
        assert list_definitions(connection, Kind.NAMESPACE, "N") == []


def test_the_store_has_a_copy_at_once_and_none_of_a_dry_run(glance, adopt, database, store):
    glance.namespace("N")
    adopt(dry_run=True)
    assert not store.note("metadefs").exists()
    adopt()
    with database.read() as connection:
        assert read_copy(store).definitions == tuple(all_definitions(connection))
