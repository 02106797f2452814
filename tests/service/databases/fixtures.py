"""The servers of a run of the tests: one of each kind, started with the first test that wants it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.service.databases.server import started

if TYPE_CHECKING:
    from tests.service.databases.mariadb import MariaDB
    from tests.service.databases.postgresql import PostgreSQL

# Most runs of some tests want neither: what asks them is loaded with the first that does.


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL; a test makes databases of its own in it."""
    from tests.service.databases.postgresql import PostgreSQL

    with started(PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB; a test makes databases of its own in it."""
    from tests.service.databases.mariadb import MariaDB

    with started(MariaDB) as server:
        yield server
