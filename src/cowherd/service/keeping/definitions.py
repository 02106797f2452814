"""The copy of the metadata definitions in each store: they are recorded again from it when the records were lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from cowherd.errors import HostFileError
from cowherd.service.keeping.faults import CopyDamaged
from cowherd.service.records.database import Database
from cowherd.service.records.faults import DefinitionNotFound, Unstorable
from cowherd.service.records.image import Moment, now
from cowherd.service.records.metadefs import Definition, Kind, all_definitions, create_definition, is_defined
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_VERSION = 1
_OUTER = (Kind.NAMESPACE, Kind.RESOURCE_TYPE)
"""Kinds of what stands in nothing else."""
_log = logging.getLogger("cowherd.service")


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """All definitions, as the records had them at a moment."""

    version: int = _VERSION
    written_at: Moment
    definitions: tuple[Definition, ...]


class Copies:
    """Keeps the copies in `stores` as the records are."""

    def __init__(self, database: Database, stores: Mapping[str, DirectoryStore]):
        self._database, self._stores = database, stores
        self._had_any = False

    def write(self, go_on: Callable[[], None]) -> int:
        """Writes the copies that differ, and returns how many. A store that fails is told in the log. Raises what the records do.

        Records that never had a definition replace no copy: they may have taken the place of lost ones.
        """
        with self._database.read() as connection:
            found = all_definitions(connection)
        self._had_any = self._had_any or bool(found)
        return sum(self._writes(store, found) for store in self._stores.values()) if self._had_any else 0

    def _writes(self, store: DirectoryStore, definitions: Sequence[Definition]) -> bool:
        try:
            return write_copy(store, definitions)
        except HostFileError as error:
            _log.error("the copy of the metadata definitions in the store %s: %s", store.name, error)
            return False


def write_copy(store: DirectoryStore, definitions: Sequence[Definition]) -> bool:
    """Writes the copy in a store, durably, if it has other definitions; returns whether it had. Raises `HostFileError`."""
    try:
        before = read_copy(store)
    except CopyDamaged:
        before = None
    if before is not None and before.definitions == tuple(definitions):
        return False
    copy = Copy(written_at=now(), definitions=tuple(definitions))
    store.write_note("metadefs", msgspec.json.format(msgspec.json.encode(copy), indent=1) + b"\n")
    return True


def read_copy(store: DirectoryStore) -> Copy | None:
    """Returns the copy in a store, None if there is none. Raises `CopyDamaged`, `HostFileError`."""
    text = store.read_note("metadefs")
    if text is None:
        return None
    try:
        copy = msgspec.json.decode(text, type=Copy)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CopyDamaged(store.name, store.note("metadefs"), str(error)) from error
    if copy.version != _VERSION or not all(map(_makes_sense, copy.definitions)):
        raise CopyDamaged(store.name, store.note("metadefs"), "this version of cowherd knows nothing like what it holds")
    return copy


def _makes_sense(one: Definition) -> bool:
    return one.kind in list(Kind) and (one.kind != Kind.NAMESPACE or one.namespace == one.name)


def record_definitions(connection: Connection, stores: Iterable[DirectoryStore]) -> list[str]:
    """Records the definitions of the latest copy that are not recorded; returns a sentence for all that is not clear.

    Raises `HostFileError`, and what the records raise.
    """
    copies, problems = _copies_in(stores)
    if not copies:
        return problems
    latest = max(copies, key=lambda name: copies[name].written_at)
    for name, copy in copies.items():
        if copy.definitions != copies[latest].definitions:
            problems.append(
                f"the metadata definitions are those of the store {latest}: the copy in the store {name} has others, and is older"
            )
    for one in sorted(copies[latest].definitions, key=lambda one: one.kind not in _OUTER):
        problems += _record(connection, one)
    return problems


def _copies_in(stores: Iterable[DirectoryStore]) -> tuple[dict[str, Copy], list[str]]:
    """Returns the sound copies by the names of their stores, and a sentence for each of the others."""
    copies, problems = {}, []
    for store in stores:
        try:
            copy = read_copy(store)
        except CopyDamaged as error:
            problems.append(str(error))
            continue
        if copy is not None:
            copies[store.name] = copy
    return copies, problems


def _record(connection: Connection, one: Definition) -> list[str]:
    """Records a definition that is not there; returns a sentence if it can't be."""
    try:
        if not is_defined(connection, one):
            create_definition(connection, one)
    except (DefinitionNotFound, Unstorable) as error:
        return [f"the {one.kind} {one.name!a} is not recorded: {error}"]
    return []
