"""The seal of a blob is one that every cowherd reads: it says what a guest sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

import cowherd
from cowherd.herd.records.digest import digest_disk
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.status import Status
from cowherd.image.open import open_disk
from cowherd.service.intake.content import FlatContent
from cowherd.service.intake.sealing import seal_blob
from cowherd.service.intake.stored import inspect_stored
from cowherd.stores.directory import DirectoryStore
from tests.hostile.corpus import seed

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore("main", str(tmp_path / "store"))
    store.prepare()
    return store


def add(store: DirectoryStore, data: bytes) -> str:
    with store.begin() as incoming:
        incoming.append(data)
        incoming.sync()
        digest = blake3(data).hexdigest()
        store.adopt(incoming.name, digest)
    return digest


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_sealed_blob_is_found_intact_by_a_full_verification(store: DirectoryStore, tmp_path: Path, format: str):
    data = seed().write(tmp_path / "seed").read_bytes() if format == "qcow2" else os.urandom(MIB) + bytes(MIB)
    digest = add(store, data)
    content = FlatContent()
    content.take(data)
    found = inspect_stored(store.path(digest), format, MIB << 10).content if format == "qcow2" else content.finish()
    assert found is not None
    seal_blob(store, digest, format, found)
    path = store.path(digest)
    record, digests = read_digests(store.beside(digest, "seal"))
    with open_disk(path, format=format) as disk:
        assert digests.content_digest == record.content_digest == digest_disk(disk).content_digest
    (checked,) = cowherd.verify([path], full=True)
    assert (checked.status, checked.sealed, checked.changed_bytes) == (Status.OK, True, 0)


def test_a_seal_shows_a_change_of_its_blob(store: DirectoryStore):
    digest = add(store, bytes(MIB))
    content = FlatContent()
    content.take(bytes(MIB))
    seal_blob(store, digest, "raw", content.finish())
    path = store.path(digest)
    path.chmod(0o640)
    with path.open("r+b") as file:
        file.write(b"!")
    (checked,) = cowherd.verify([path], full=True)
    assert (checked.status, checked.changed_bytes) == (Status.DRIFTED, 65536)
