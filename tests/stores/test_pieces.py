"""Pieces of a blob, read from a host that gives less at once than was asked for."""

from __future__ import annotations

import os

import pytest
from blake3 import blake3

from cowherd.stores.directory import DirectoryStore
from cowherd.stores.pieces import Pieces
from cowherd.stores.sums import PIECE, Summing


def test_a_short_read_is_no_damage(tmp_path, monkeypatch: pytest.MonkeyPatch):
    data = os.urandom(PIECE + 1000)
    digest, summing = blake3(data).hexdigest(), Summing()
    summing.update(data)
    store = DirectoryStore("main", str(tmp_path / "store"))
    store.prepare()
    with store.begin() as incoming:
        incoming.append(data)
        incoming.sync()
    with store.locked(digest):
        store.adopt(incoming.name, digest)
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: whole(fd, min(count, 70_000), offset))
    with Pieces(store, digest, summing.finish()) as pieces:
        assert [pieces.read(0), pieces.read(1)] == [data[:PIECE], data[PIECE:]]
    os.truncate(store.path(digest), PIECE + 999)
    with Pieces(store, digest, pieces.sums) as pieces:
        assert pieces.read(1) is None
