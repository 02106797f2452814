"""A service for each test, and its client."""

from __future__ import annotations

import pytest

from cowherd.client.connection import Service
from tests.service.web.running import Client, running


@pytest.fixture
def client(tmp_path):
    """Asks the service directly."""
    with running(tmp_path / "service") as client:
        yield client


@pytest.fixture
def service(client: Client) -> Service:
    return Service(f"http://127.0.0.1:{client.port}")


@pytest.fixture(autouse=True)
def _state(tmp_path, monkeypatch):
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path / "state"))
