"""The copies of the metadata definitions follow the records, and lost records are made again from them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from cowherd.service.intake.arriving import Intake
from cowherd.service.keeping.definitions import Copies, read_copy
from cowherd.service.keeping.duties import Care, duties
from cowherd.service.keeping.faults import CopyDamaged
from cowherd.service.keeping.fsck import definitions as checking
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.keeping.rebuild import rebuild
from cowherd.service.records.columns import LONGEST_KEY
from cowherd.service.records.database import Database, open_database
from cowherd.service.records.image import now
from cowherd.service.records.metadefs import (
    Definition,
    Kind,
    all_definitions,
    create_definition,
    delete_definition,
    update_definition,
)
from cowherd.stores import directory
from cowherd.stores.directory import DirectoryStore
from tests.service.keeping.keeping import Queued, stored

OLD = now() - timedelta(days=1)


@pytest.fixture
def stores(intake: Intake, tmp_path: Path) -> dict[str, DirectoryStore]:
    other = DirectoryStore("other", str(tmp_path / "other"))
    other.prepare()
    return {"main": intake.store, "other": other}


@pytest.fixture
def empty(new_tables: Path, tmp_path: Path) -> Iterator[Database]:
    """Other records, with nothing in them."""
    shutil.copy(new_tables, tmp_path / "new.db")
    database = open_database(f"sqlite:///{tmp_path / 'new.db'}")
    yield database
    database.close()


def definition(kind: Kind, namespace: str, name: str, **facts: object) -> Definition:
    return Definition(kind=kind, namespace=namespace, name=name, created_at=OLD, updated_at=OLD, **facts)


NAMESPACE = definition(Kind.NAMESPACE, "n\n\u05d0", "n\n\u05d0", owner="demo", visibility="public", body={"protected": True})
TAG = definition(Kind.TAG, NAMESPACE.name, "t")
ASSOCIATION = definition(Kind.ASSOCIATION, NAMESPACE.name, "OS::Nova::Flavor", body={"prefix": "hw_"})
TYPE = definition(Kind.RESOURCE_TYPE, "", "OS::Nova::Flavor")
PROPERTY = definition(Kind.PROPERTY, NAMESPACE.name, "p", body={"type": "integer", "minimum": -1, "enum": [1.5, None, "x"]})
ALL = (ASSOCIATION, NAMESPACE, PROPERTY, TYPE, TAG)


def defined(database: Database, *definitions: Definition) -> None:
    with database.write() as connection:
        for one in sorted(definitions, key=lambda one: one.kind != Kind.NAMESPACE):
            create_definition(connection, one)


def recorded(database: Database) -> list[Definition]:
    with database.read() as connection:
        return all_definitions(connection)


def copied(store: DirectoryStore) -> list[Definition] | None:
    copy = read_copy(store)
    return None if copy is None else list(copy.definitions)


def write(database: Database, stores: dict[str, DirectoryStore]) -> int:
    return Copies(database, stores).write(lambda: None)


def test_definitions_are_as_they_were_when_the_records_are_made_again(intake: Intake, empty: Database, stores):
    defined(intake.database, *ALL)
    assert write(intake.database, stores) == 2
    assert write(intake.database, stores) == 0
    assert rebuild(empty, stores) == (0, 0, ())
    assert recorded(empty) == recorded(intake.database)
    assert len(recorded(empty)) == len(ALL)


def test_who_keeps_the_stores_writes_the_copies(intake: Intake, stores):
    defined(intake.database, *ALL)
    for duty in duties(intake.database, stores, Care(timedelta(1), timedelta(1), None)):
        duty.work(lambda: None)
    assert [copied(store) for store in stores.values()] == [recorded(intake.database)] * 2


def test_the_copies_follow_each_change(intake: Intake, stores):
    copies = Copies(intake.database, stores)
    defined(intake.database, *ALL)
    copies.write(lambda: None)
    with intake.database.write() as connection:
        renamed = msgspec.structs.replace(NAMESPACE, namespace="m", name="m")
        update_definition(connection, Kind.NAMESPACE, NAMESPACE.name, NAMESPACE.name, renamed)
        delete_definition(connection, Kind.TAG, "m", "t")
    assert copies.write(lambda: None) == 2
    assert [copied(store) for store in stores.values()] == [recorded(intake.database)] * 2
    with intake.database.write() as connection:
        delete_definition(connection, Kind.NAMESPACE, "m", "m")
        delete_definition(connection, Kind.RESOURCE_TYPE, "", TYPE.name)
    assert copies.write(lambda: None) == 2
    assert [copied(store) for store in stores.values()] == [[], []]


def test_records_that_replace_lost_ones_leave_the_copy_as_it_is(intake: Intake, empty: Database, stores):
    defined(intake.database, *ALL)
    write(intake.database, stores)
    assert write(empty, stores) == 0
    assert list(check_service(empty, stores, repair=True)) == []
    assert rebuild(empty, stores).problems == ()
    assert len(recorded(empty)) == len(ALL)


def test_a_store_that_fails_keeps_no_other_waiting(intake: Intake, stores, caplog):
    defined(intake.database, *ALL)
    shutil.rmtree(stores["main"].directory)
    assert write(intake.database, stores) == 1
    assert copied(stores["other"]) == recorded(intake.database)
    assert "main" in caplog.text


def test_the_latest_of_copies_that_differ_counts_and_that_is_told(intake: Intake, empty: Database, stores):
    defined(intake.database, NAMESPACE, TAG)
    write(intake.database, stores)
    defined(intake.database, PROPERTY)
    write(intake.database, {"other": stores["other"]})
    made = rebuild(empty, stores)
    assert ["store other" in problem and "store main" in problem for problem in made.problems] == [True]
    assert recorded(empty) == recorded(intake.database)


def test_what_is_recorded_already_stays_as_it_is(intake: Intake, empty: Database, stores):
    defined(intake.database, *ALL)
    write(intake.database, stores)
    defined(empty, msgspec.structs.replace(NAMESPACE, owner="other"))
    assert rebuild(empty, stores).problems == ()
    assert [one.owner for one in recorded(empty) if one.kind == Kind.NAMESPACE] == ["other"]
    assert len(recorded(empty)) == len(ALL)


def altered(store: DirectoryStore, **facts: object) -> bytes:
    """Returns the copy with another fact about its first definition."""
    copy = msgspec.json.decode(store.read_note("metadefs") or b"")
    copy["definitions"][0].update(facts)
    return msgspec.json.encode(copy)


BAD = {
    "no JSON": lambda store: b"{",
    "nothing": lambda store: b"",
    "no text": lambda store: b"\xff\xfe\xff",
    "half of a pair": lambda store: altered(store, name="x").replace(b'"x"', b'"\\ud800"'),
    "deep": lambda store: b"[" * 100_000,
    "deep inside": lambda store: altered(store, body={"x": 1}).replace(b'"x":1', b'"x":' + b"[" * 100_000 + b"]" * 100_000),
    "of no kind": lambda store: altered(store, kind="kernel"),
    "two names": lambda store: altered(store, kind="namespace", name="a", namespace="b"),
    "no time zone": lambda store: altered(store, created_at="2026-01-01T00:00:00"),
    "a newer version": lambda store: (store.read_note("metadefs") or b"").replace(b'"version": 1', b'"version": 2'),
    "too large": lambda store: altered(store, body={"x": "y" * 70_000}),
}


@pytest.mark.parametrize("way", BAD)
def test_a_copy_that_makes_no_sense_is_passed_over_told_and_written_anew(
    intake: Intake, queued: Queued, empty: Database, stores, way: str, monkeypatch
):
    monkeypatch.setattr(directory, "_MOST_NOTE_BYTES", 1 << 16 if way == "too large" else 1 << 20)
    stored(intake, queued())
    defined(intake.database, *ALL)
    write(intake.database, stores)
    stores["main"].write_note("metadefs", BAD[way](stores["main"]))
    with pytest.raises(CopyDamaged):
        read_copy(stores["main"])
    made = rebuild(empty, stores)
    assert (made.images, [str(stores["main"].note("metadefs")) in problem for problem in made.problems]) == (1, [True])
    assert recorded(empty) == recorded(intake.database)
    findings = list(check_service(intake.database, stores, repair=False))
    assert [(one.kind, one.store, one.is_left) for one in findings] == [("metadefs", "main", True)]
    assert write(intake.database, stores) == 1
    assert list(check_service(intake.database, stores, repair=False)) == []


@pytest.mark.parametrize(
    "facts", [{"name": "x" * (LONGEST_KEY + 1)}, {"name": "a\0b"}, {"namespace": "nowhere"}, {"owner": "x" * (LONGEST_KEY + 1)}]
)
def test_a_definition_that_can_not_be_recorded_is_told_and_the_others_are(intake: Intake, empty: Database, stores, facts):
    defined(intake.database, *ALL)
    write(intake.database, stores)
    for store in stores.values():
        store.write_note("metadefs", altered(store, **facts))
    made = rebuild(empty, stores)
    assert len(made.problems) == 1
    assert "is not recorded" in made.problems[0]
    assert len(recorded(empty)) == len(ALL) - 1


def test_copies_that_lack_something_are_found_and_written_only_on_request(intake: Intake, stores):
    defined(intake.database, *ALL)
    stores["main"].write_note("metadefs", b'{"written_at": "2026-01-01T00:00:00Z", "definitions": []}')
    findings = list(check_service(intake.database, stores, repair=False))
    assert [(one.kind, one.store, one.is_left) for one in findings] == [("metadefs", name, True) for name in stores]
    assert copied(stores["other"]) is None
    assert [one.repaired for one in check_service(intake.database, stores, repair=True)] == [True, True]
    assert list(check_service(intake.database, stores, repair=False)) == []


def test_what_was_defined_a_moment_ago_need_not_be_copied_yet(intake: Intake, stores):
    defined(intake.database, *ALL)
    write(intake.database, stores)
    just_now = now()
    defined(intake.database, msgspec.structs.replace(TAG, name="new", updated_at=just_now))
    assert list(check_service(intake.database, stores, repair=False)) == []
    with intake.database.write() as connection:
        changed = msgspec.structs.replace(PROPERTY, body={"type": "string"})
        update_definition(connection, Kind.PROPERTY, NAMESPACE.name, PROPERTY.name, changed)
        delete_definition(connection, Kind.TAG, NAMESPACE.name, "t")
    assert list(check_service(intake.database, stores, repair=False)) == []


def test_after_a_moment_it_must_be(intake: Intake, stores, monkeypatch):
    monkeypatch.setattr(checking, "PATIENCE", timedelta(0))
    defined(intake.database, *ALL)
    write(intake.database, stores)
    with intake.database.write() as connection:
        changed = msgspec.structs.replace(PROPERTY, body={"type": "string"})
        update_definition(connection, Kind.PROPERTY, NAMESPACE.name, PROPERTY.name, changed)
    assert ["lacks 1 of 5" in one.problem for one in check_service(intake.database, stores, repair=False)] == [True, True]
