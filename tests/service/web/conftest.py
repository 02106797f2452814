"""A service for the tests of its routes."""

from __future__ import annotations

import pytest

from tests.service.web.running import running


@pytest.fixture
def client(tmp_path):
    """A client of a service of its own, in which everybody may do all."""
    with running(tmp_path) as client:
        yield client
