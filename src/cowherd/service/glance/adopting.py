"""Adopts the images of a Glance, one after the other: content first, and then its record in one transaction.

Killed at any moment, it has adopted some images and left no trace of the next one but a file that nobody holds. What is known
already is not touched, but for copies in further stores that were still to be made; a record that waits for its content, and that
nobody has changed here, is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from cowherd.service.glance.content import Bringing, Brought, How
from cowherd.service.glance.copies import ADOPTED, left_to_make, make_copies, to_be_made
from cowherd.service.glance.faults import Unfit
from cowherd.service.glance.files import Files, Found
from cowherd.service.glance.images import GlanceImage, GlanceImages
from cowherd.service.glance.report import NamespaceOutcome, Outcome, Result
from cowherd.service.glance.vocabulary import Vocabulary, adopt_resource_types
from cowherd.service.intake.adoption import Arrived, make_blob, record_arrived, tidying, with_bytes
from cowherd.service.intake.faults import Refused
from cowherd.service.intake.lineage import Bases, MoreVisible
from cowherd.service.policy.personas import Caller, Persona
from cowherd.service.records.database import Database
from cowherd.service.records.events import Event, record_event, was_deleted
from cowherd.service.records.failures import note_failure
from cowherd.service.records.faults import ImageChanged, ImageExists, ImageNotFound, Unstorable
from cowherd.service.records.image import Image, Location
from cowherd.service.records.images import create_image, delete_image, read_image
from cowherd.service.records.lineage import record_base
from cowherd.service.records.members import Member, list_members, record_member
from cowherd.service.records.metadefs import Definition, create_definition, is_defined
from cowherd.service.records.states import ACTIVE, DEACTIVATED, QUEUED
from cowherd.service.tasks.copying import SourceDamaged
from cowherd.storage.identity import FileIdentity
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.faults import BlobMissing

if TYPE_CHECKING:
    from sqlalchemy import Connection

HOW = "glance"
ON_THE_WEB = "on the web"
_UNDER_WAY = "its content was not all there, as it was {}. Adopt again once it is active in Glance, or upload it here"
_CHANGED = "Glance's record was changed since it was adopted, and this one was left as it is"
_WAITS = "it waits for its content, and was changed here since it was adopted: upload its content"
_GONE = "it was deleted in Glance since it was adopted, and is still here"
_NO_CONTENT = {"checksum": None, "os_hash_algo": None, "os_hash_value": None, "size": None, "virtual_size": None}


@dataclass(frozen=True)
class Adoption:
    """Adopts images into `stores`, of which the first takes all whose file store has no namesake. `is_dry` changes nothing.

    `keeps_web`: images may have locations on the web.
    """

    database: Database
    stores: Mapping[str, DirectoryStore]
    files: Files
    bringing: Bringing
    keeps_web: bool = False
    is_dry: bool = False

    def adopt_images(self, found: GlanceImages) -> Iterator[Outcome]:
        """Adopts images, and yields what became of each. Raises `HostFileError`, `StoreFull`, and what the records raise."""
        for one in found.images:
            yield self._adopt(one)
        yield from self._gone(found.deleted)

    def adopt_vocabulary(self, found: Vocabulary) -> Iterator[NamespaceOutcome]:
        """Adopts namespaces, each with all that is in it, and yields what became of each. Raises what the records raise."""
        if not self.is_dry:
            with self.database.write() as connection:
                adopt_resource_types(connection, found)
        for definitions in found.namespaces:
            name = definitions[0].name
            with self.database.read() as connection:
                is_known = is_defined(connection, definitions[0])
            if is_known:
                yield NamespaceOutcome(name, Result.KNOWN)
            else:
                yield self._adopt_namespace(definitions)

    def _adopt_namespace(self, definitions: tuple[Definition, ...]) -> NamespaceOutcome:
        name = definitions[0].name
        if not self.is_dry:
            try:
                with self.database.write() as connection:
                    for definition in definitions:
                        create_definition(connection, definition)
            except Unstorable as error:
                return NamespaceOutcome(name, Result.FAILED, str(error))
        return NamespaceOutcome(name, Result.ADOPTED)

    def _adopt(self, one: GlanceImage) -> Outcome:
        with self.database.read() as connection:
            known = _known(connection, one.record.id)
            deleted_here = known is None and was_deleted(connection, one.record.id)
        if deleted_here:
            return _outcome(one, Result.DELETED)
        if known is not None and not _may_be_made_anew(known):
            return self._go_on(one, known)
        try:
            if one.record.status in (ACTIVE, DEACTIVATED):
                return self._with_content(one, known)
            return self._without_content(one, known)
        except (Unstorable, ImageChanged, ImageExists, ImageNotFound) as error:  # another request came in between, say
            return _outcome(one, Result.FAILED, problem=str(error))

    def _go_on(self, one: GlanceImage, known: Image) -> Outcome:
        """Makes the copies of an image that an earlier run was to make; else it is not touched."""
        with self.database.read() as connection:
            left = [name for name in left_to_make(connection, known.id) if name in self.stores]
        if known.blob is None or not left:
            return _outcome(one, Result.KNOWN, problem=_problem_of_known(one.record, known))
        try:
            if not self.is_dry:
                make_copies(self.database, self.stores, known, left)
        except (SourceDamaged, BlobMissing) as error:  # which keeps no other image waiting
            return _outcome(one, Result.KNOWN, problem=str(error))
        return _outcome(one, Result.ADOPTED, None if self.is_dry else How.COPIED, known.size)

    def _with_content(self, one: GlanceImage, known: Image | None) -> Outcome:
        web = self.files.on_the_web(one) if self.keeps_web else ()
        problems: list[str] = []
        for found in self.files.of(one):
            try:
                how = self._take(one, found, web, known)
            except (Unfit, Refused, MoreVisible) as error:
                problems.append(str(error))
            else:
                return _outcome(one, Result.ADOPTED, how, one.record.size, _joined(problems))  # of another copy of the content
        if web:
            self._record(replace(one.record, locations=web), one, known)
            return _outcome(one, Result.ADOPTED, ON_THE_WEB, one.record.size, _joined(problems))
        return self._wait(one, known, _joined(problems) or self.files.why_none(one))

    def _without_content(self, one: GlanceImage, known: Image | None) -> Outcome:
        if one.record.status != QUEUED:
            return self._wait(one, known, _UNDER_WAY.format(one.record.status))
        self._record(replace(one.record, **_NO_CONTENT), one, known)
        return _outcome(one, Result.RECORDED if known is None else Result.KNOWN)

    def _wait(self, one: GlanceImage, known: Image | None, problem: str) -> Outcome:
        """Adopts a record that says why its content is not there."""
        properties = {name: value for name, value in one.record.properties.items() if not name.startswith("os_glance_")}
        reason = f"Not adopted from Glance: {problem}"
        self._record(replace(one.record, status=QUEUED, reason=reason, properties=properties, **_NO_CONTENT), one, known)
        return _outcome(one, Result.WAITING, problem=problem)

    def _take(self, one: GlanceImage, found: Found, web: tuple[Location, ...], known: Image | None) -> str | None:
        bases = self._bases_of(one.record)
        if self.is_dry:
            self.bringing.look(one.record, found.path, bases)
            return None
        store = self.stores.get(found.backend) or next(iter(self.stores.values()))
        with self.bringing.bring(one.record, found.path, bases, store) as brought:
            self._keep(store, brought, replace(one.record, locations=web), one, known, bases)
        if others := self._others(one, store.name):
            with self.database.read() as connection:
                image = read_image(connection, one.record.id)
            make_copies(self.database, self.stores, image, others)
        return brought.how

    def _keep(
        self, store: DirectoryStore, brought: Brought, image: Image, one: GlanceImage, known: Image | None, bases: Bases
    ) -> None:
        arrived = brought.arrived
        image = _as_recorded(with_bytes(image, arrived), one.record)
        with store.locked(image.blob or ""), tidying(self.database, store, image.blob or ""):
            identity = make_blob(self.database, store, brought.temporary, image, one.members, arrived)
            self._record(image, one, known, _Blob(arrived, store.name, identity, bases))

    def _others(self, one: GlanceImage, store: str) -> list[str]:
        """Returns the stores but `store` that are called as those of Glance's that have the content."""
        names = {str(location.metadata.get("store")) for location in one.locations}
        return sorted(names & set(self.stores) - {store})

    def _record(self, image: Image, one: GlanceImage, known: Image | None, blob: _Blob | None = None) -> None:
        """Records an image with its members, in place of what is `known` of it, in one transaction.

        Raises `ImageChanged` if what is known is not so any more, and what the records raise.
        """
        if self.is_dry:
            return
        with self.database.write() as connection:
            if blob is None and known is not None and _is_recorded(connection, image, one.members):
                return
            _make_way(connection, image.id, known)
            if blob is not None:
                record_arrived(connection, blob.arrived, blob.store, HOW, blob.identity)
            create_image(connection, image)
            for member in one.members:
                record_member(connection, member)
            if blob is not None and blob.arrived.bound_to is not None:
                record_base(connection, blob.bases.claim(connection, image, blob.arrived.bound_to))
            others = to_be_made(self._others(one, blob.store) if blob else ())
            detail = {"from": HOW, "status": one.record.status, **others}
            record_event(connection, Event(action=ADOPTED, project=image.owner, image_id=image.id, detail=detail))
            if image.reason is not None:
                note_failure(connection, image.id, image.reason)

    def _bases_of(self, image: Image) -> Bases:
        """Returns what finds the bases of overlays: the owner's, as if the owner uploaded it."""
        return Bases(self.database, self.stores, Caller(None, image.owner, frozenset({Persona.MEMBER})))

    def _gone(self, deleted: frozenset[str]) -> Iterator[Outcome]:
        for image_id in sorted(deleted):
            with self.database.read() as connection:
                known = _known(connection, image_id)
            if known is not None:
                yield Outcome(image_id, known.name, "deleted", Result.KNOWN, problem=_GONE)


class _Blob(NamedTuple):
    """Content that is about to be recorded: `identity` is that of its file in `store` if that is new."""

    arrived: Arrived
    store: str
    identity: FileIdentity | None
    bases: Bases


def _known(connection: Connection, image_id: str) -> Image | None:
    try:
        return read_image(connection, image_id)
    except ImageNotFound:
        return None


def _may_be_made_anew(known: Image) -> bool:
    """Returns whether a record waits for its content, and is as it was when it was adopted."""
    return known.status == QUEUED and known.version == 1


def _is_recorded(connection: Connection, image: Image, members: tuple[Member, ...]) -> bool:
    known = _known(connection, image.id)
    return known == image and set(list_members(connection, image.id)) == set(members)


def _make_way(connection: Connection, image_id: str, known: Image | None) -> None:
    if known is None:
        return
    if not _may_be_made_anew(read_image(connection, image_id)):
        raise ImageChanged(image_id, known.version)
    delete_image(connection, image_id)


def _as_recorded(image: Image, recorded: Image) -> Image:
    """Returns an image that has its bytes with what Glance says of them; they have been held against that."""
    stated = {name: value for name in ("checksum", "virtual_size") if (value := getattr(recorded, name)) is not None}
    if image.virtual_size is not None:
        stated.pop("virtual_size", None)
    if recorded.os_hash_value is not None:
        stated |= {"os_hash_algo": recorded.os_hash_algo, "os_hash_value": recorded.os_hash_value}
    return replace(image, **stated)


def _problem_of_known(recorded: Image, known: Image) -> str | None:
    if known.status == QUEUED and recorded.status in (ACTIVE, DEACTIVATED):
        return _WAITS
    return _CHANGED if recorded.updated_at > known.updated_at else None


def _joined(problems: Sequence[str]) -> str | None:
    return "; ".join(problems) or None


def _outcome(
    one: GlanceImage, result: Result, how: str | None = None, size: int | None = None, problem: str | None = None
) -> Outcome:
    return Outcome(one.record.id, one.record.name, one.record.status, result, how, size, problem)
