from __future__ import annotations

import pytest

from cowherd.herd.lineage.catalog import catalog
from tests.herd.lineage.catalog.watching import TICK_NS


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A catalog of the test's own, which is used however small a herd is, and trusts files sooner than people's catalogs do."""
    path = tmp_path / "cache" / "catalog.sqlite"
    monkeypatch.setenv("COWHERD_CATALOG", str(path))
    monkeypatch.setattr(catalog, "WORTHWHILE", 0)
    monkeypatch.setattr(catalog, "SETTLED_NS", TICK_NS)
    catalog._warn_once.cache_clear()
    return path


@pytest.fixture
def folder(tmp_path):
    """Where the herd is."""
    path = tmp_path / "herd"
    path.mkdir()
    return path
