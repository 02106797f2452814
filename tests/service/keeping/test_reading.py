"""What is given out was verified: its file is the one that was, or it is looked at before."""

from __future__ import annotations

import os
import shutil

import pytest
from blake3 import blake3

from cowherd.service.intake.arriving import Intake
from cowherd.service.keeping.faults import ContentDamaged
from cowherd.service.keeping.reading import Reader
from cowherd.service.records.image import Image
from cowherd.stores.directory import DirectoryStore
from tests.service.keeping.keeping import DATA, MIB, Queued, flip, found, places, stored, truncate, two_stores

DIGEST = blake3(DATA).hexdigest()
SIZE = len(DATA)


def reader(intake: Intake, stores: dict[str, DirectoryStore] | None = None, *preferred: str) -> Reader:
    return Reader(intake.database, stores or {"main": intake.store}, DIGEST, SIZE, preferred)


def opened(intake: Intake, stores: dict[str, DirectoryStore] | None = None, start: int = 0, end: int = SIZE) -> bytes:
    descriptor = reader(intake, stores).open(start, end)
    with os.fdopen(descriptor, "rb") as file:
        file.seek(start)
        return file.read(end - start)


@pytest.fixture
def image(intake: Intake, queued: Queued) -> Image:
    return stored(intake, queued())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """The ranges that are verified."""
    verify, ranges = DirectoryStore.verify, []

    def noted(self, digest, *, start=0, end=None, **more):
        ranges.append((start, end))
        return verify(self, digest, start=start, end=end, **more)

    monkeypatch.setattr(DirectoryStore, "verify", noted)
    return ranges


def test_what_was_verified_is_not_read_again(intake: Intake, image: Image, read: list):
    assert opened(intake) == DATA
    assert read == []


def test_a_file_that_may_have_changed_is_read_once(intake: Intake, image: Image, read: list):
    path = intake.store.path(DIGEST)
    shutil.copy(path, f"{path}.copy")
    os.rename(f"{path}.copy", path)
    assert (opened(intake), opened(intake)) == (DATA, DATA)
    assert read == [(0, None)]
    assert places(intake, image)["main"].verified_how == "read"


def test_of_a_range_no_more_than_its_pieces_is_read(intake: Intake, image: Image, read: list):
    os.utime(intake.store.path(DIGEST))
    assert opened(intake, None, MIB + 5, MIB + 10) == DATA[MIB + 5 : MIB + 10]
    assert read == [(MIB + 5, MIB + 10)]
    assert places(intake, image)["main"].verified_how == "upload"


def test_a_flipped_bit_is_never_given_out(intake: Intake, image: Image):
    flip(intake.store.path(DIGEST), MIB)
    with pytest.raises(ContentDamaged, match=f"{MIB}-{2 * MIB - 1}") as refusal:
        opened(intake)
    assert found(intake, image).reason == str(refusal.value)
    with pytest.raises(ContentDamaged):
        opened(intake, None, 0, 10)


def test_a_range_with_damage_is_refused_and_one_without_is_not_before_the_damage_is_known(intake: Intake, image: Image):
    flip(intake.store.path(DIGEST), MIB)
    assert opened(intake, None, 0, MIB) == DATA[:MIB]
    with pytest.raises(ContentDamaged):
        opened(intake, None, MIB, MIB + 1)
    assert places(intake, image)["main"].damage == ((MIB, 2 * MIB),)


@pytest.mark.parametrize("way", ["cut", "gone", "longer"])
def test_another_store_is_read_where_one_is_not_whole(intake: Intake, image: Image, way: str):
    stores = two_stores(intake, image)
    path = intake.store.path(DIGEST)
    if way == "gone":
        path.unlink()
    else:
        truncate(path, SIZE + (1 if way == "longer" else -1))
    assert opened(intake, stores) == DATA
    assert places(intake, image)["main"].state == ("missing" if way == "gone" else "damaged")
    assert places(intake, image)["other"].state == "whole"


def test_the_preferred_store_is_read_first(intake: Intake, image: Image):
    stores = two_stores(intake, image)
    for name, store in stores.items():
        descriptor = reader(intake, stores, name).open(0, SIZE)
        assert os.fstat(descriptor).st_ino == store.path(DIGEST).stat().st_ino
        os.close(descriptor)


def test_an_image_whose_store_is_not_configured_is_said_to_be_nowhere(intake: Intake, image: Image):
    with pytest.raises(ContentDamaged, match="in no store of this service"):
        opened(intake, {"another": intake.store})


@pytest.mark.parametrize(("start", "end"), [(0, SIZE), (5, 6), (MIB - 1, 2 * MIB + 1), (SIZE - 1, SIZE), (0, 0)])
def test_proved_pieces_are_the_bytes(intake: Intake, image: Image, start: int, end: int):
    assert b"".join(reader(intake).pieces(start, end)) == DATA[start:end]


def test_pieces_come_from_another_store_when_the_first_one_fails_on_the_way(intake: Intake, image: Image):
    stores = two_stores(intake, image)
    flip(intake.store.path(DIGEST), 2 * MIB)
    assert b"".join(reader(intake, stores).pieces(0, SIZE)) == DATA
    assert places(intake, image)["main"].damage == ((2 * MIB, 3 * MIB),)


def test_pieces_end_before_the_damage_that_no_store_can_heal(intake: Intake, image: Image):
    flip(intake.store.path(DIGEST), 2 * MIB)
    pieces, given = reader(intake).pieces(0, SIZE), []
    with pytest.raises(ContentDamaged, match="main"):
        given.extend(pieces)
    assert b"".join(given) == DATA[: 2 * MIB]


@pytest.mark.parametrize("way", ["sums", "both"])
def test_pieces_without_sums_are_proved_by_the_name(intake: Intake, image: Image, way: str):
    intake.store.beside(DIGEST, "sums").unlink()
    if way == "sums":
        assert b"".join(reader(intake).pieces(0, SIZE)) == DATA
        return
    flip(intake.store.path(DIGEST), 0)
    with pytest.raises(ContentDamaged, match=f"0-{SIZE - 1}"):
        next(reader(intake).pieces(0, SIZE))
