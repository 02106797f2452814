from __future__ import annotations

import pytest

from cowherd.herd.lineage.book.memory import mount_table


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of the test's own, that remembers what it has seen and where nobody looks around an image."""
    home = tmp_path / "host"
    home.mkdir()
    monkeypatch.setenv("COWHERD_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("COWHERD_CONFIG", str(tmp_path / "cowherd.toml"))
    monkeypatch.setenv("COWHERD_CEILING", str(home))
    mount_table.cache_clear()
    yield home
    mount_table.cache_clear()
