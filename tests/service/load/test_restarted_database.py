"""PostgreSQL is restarted while clients work: they are told, and the service goes on by itself."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.databases.postgresql import PostgreSQL
from tests.service.load.process import Process, process
from tests.service.web.running import Client
from tests.waiting import wait_until

OCTETS = {"content_type": "application/octet-stream"}
CLIENTS, WORKERS = 4, 2
_NUMBERS = itertools.count()


class Working(threading.Thread):
    """A client that makes images with content until it is stopped; `stored` are those of which it was told so."""

    def __init__(self, client: Client, number: int):
        super().__init__(name=f"client-{number}")
        self._client, self._content = client, f"content of {number}".encode()
        self.stored: list[str] = []
        self.refused: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            made = self._client.ask("POST", "/v2/images", {"disk_format": "raw", "container_format": "bare"})
            if self._is_done(made, 201):
                put = self._client.ask("PUT", f"/v2/images/{made.json['id']}/file", self._content, **OCTETS)
                if self._is_done(put, 204):
                    self.stored.append(made.json["id"])

    def _is_done(self, answer, status: int) -> bool:
        if answer.status != status:
            self.refused.append(f"{answer.status} {answer.body.decode()}")
        return answer.status == status

    def require_all(self) -> None:
        """Requires that all is there of which it was told."""
        for image_id in self.stored:
            assert self._client.get(f"/v2/images/{image_id}/file").body == self._content


@pytest.fixture
def service(tmp_path: Path, postgresql: PostgreSQL) -> Iterator[Process]:
    with process(tmp_path, WORKERS, postgresql.create(f"restarted_{next(_NUMBERS)}")) as service:
        service.start()
        yield service


def test_clients_are_told_and_then_all_goes_on(service: Process, postgresql: PostgreSQL):
    client = service.client()
    working = [Working(client, number) for number in range(CLIENTS)]
    for one in working:
        one.start()
    try:
        wait_until(lambda: all(one.stored for one in working))
        postgresql.stop()
        wait_until(lambda: any(one.refused for one in working))
        postgresql.start()
        counts = [len(one.stored) for one in working]
        wait_until(lambda: all(len(one.stored) > count + 2 for one, count in zip(working, counts, strict=True)))
    finally:
        for one in working:
            one.ending.set()
        for one in working:
            one.join()
    refused = [said for one in working for said in one.refused]
    assert {said for said in refused if "The database refused: " not in said or not said.startswith("503 ")} == set()
    for one in working:
        one.require_all()
    assert "Traceback" not in service.log()


def test_who_did_not_ask_meanwhile_does_not_notice(service: Process, postgresql: PostgreSQL):
    client = service.client()
    for _ in range(8 * WORKERS):  # so that each worker has had a connection
        assert client.get("/v2/images").status == 200
    postgresql.stop()
    postgresql.start()
    assert {client.get("/v2/images").status for _ in range(8 * WORKERS)} == {200}
