"""One service with all that a page can show, for the tests that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.service.web.page.furnished import furnish
from tests.service.web.running import Client, running


class Furnished(NamedTuple):
    """A client of the service, and the ids of some of its images."""

    client: Client
    ids: dict[str, str]

    def page(self, path: str = "") -> str:
        """Returns a page; the path is that below /cowherd/."""
        answer = self.client.get(f"/cowherd/{path}")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        return answer.body.decode()


@pytest.fixture(scope="module")
def furnished(tmp_path_factory) -> Iterator[Furnished]:
    directory = tmp_path_factory.mktemp("service")
    with running(directory) as client:
        yield Furnished(client, furnish(client, directory))
