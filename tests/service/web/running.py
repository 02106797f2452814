"""The whole service on loopback, and a small client that asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Executable

from cowherd.service.records.database import open_database
from cowherd.service.web.app import App
from cowherd.service.web.measuring import Measured
from cowherd.service.web.run import open_service, prepare
from cowherd.service.web.settings import read_settings
from tests.service.web.described import faults
from tests.service.web.serving.serving import served


class Answer(NamedTuple):
    """What came back: the status, the headers (lower case), the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a document."""
        return json.loads(self.body)


class Client:
    """Asks a service at a port; every method opens a connection of its own. Each answer must be as docs/image-api.md tells."""

    def __init__(self, port: int, headers: dict[str, str] | None = None):
        self.port, self.headers = port, headers or {}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Sends a request. A body that is no bytes is sent as JSON; `_` in a header's name means `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()}
        if body is not None and not isinstance(body, bytes) and not isinstance(body, Iterator):
            body = json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, body, given, encode_chunked=isinstance(body, Iterator))
            found = connection.getresponse()
            answer = Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        found_faults = [] if answer.status == 500 else list(faults(method, path, *answer))
        assert not found_faults, (found_faults, answer)
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """Sends GET."""
        return self.ask("GET", path, **headers)

    def create(self, **properties: Any) -> dict[str, Any]:
        """Makes an image; returns its document."""
        answer = self.ask("POST", "/v2/images", properties)
        assert answer.status == 201, answer
        return answer.json

    def patch(self, image_id: str, *changes: tuple[Any, ...], version: str = "2.1") -> Answer:
        """Sends changes (operation, path, and value where there is one)."""
        names = ("op", "path", "value")
        body = [dict(zip(names, change, strict=False)) for change in changes]
        return self.ask(
            "PATCH", f"/v2/images/{image_id}", body, content_type=f"application/openstack-images-v{version}-json-patch"
        )


@contextlib.contextmanager
def running(directory: Path, *words: str) -> Iterator[Client]:
    """Gives a client of a service over data in `directory`, with KEY=VALUE settings."""
    settings = read_settings(None, words, {"data": str(directory / "data")})
    prepare(settings)
    service = open_service(settings)
    sessions = contextlib.closing(service.sessions)
    with contextlib.closing(service.database), service.runner, sessions, served(Measured(App(service))) as port:
        yield Client(port)


def change_records(directory: Path, statement: Executable) -> None:
    """Changes the records of a service with data in `directory`, as another process would."""
    with (
        contextlib.closing(open_database(f"sqlite:///{directory}/data/records.sqlite")) as database,
        database.write() as connection,
    ):
        connection.execute(statement)
