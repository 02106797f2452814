"""Kills the service under load again and again, and compares what is there afterwards with what was acknowledged."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3
from sqlalchemy import update

from cowherd.service.keeping.fsck.report import HARMLESS
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.records.database import open_database
from cowherd.service.records.image import now
from cowherd.service.records.schema import tasks
from cowherd.service.records.tasks import PENDING, PROCESSING, Task, list_tasks
from cowherd.service.web.run import stores_of
from cowherd.service.web.settings import Settings, read_settings
from tests.service.load.client import Gate, LoadClient
from tests.service.load.contents import Content, refused_contents, sound_contents
from tests.service.load.ledger import ABSENT, ACTIVE, COMING, Held, State
from tests.service.load.process import Process, process
from tests.service.web.running import Client
from tests.waiting import wait_until

CLIENTS = 8
_MOST_ANSWERS, _LONGEST_SECONDS = 80, 0.3
"""After how many answers at most the service is killed, and how much later."""
_AT_START = 0.15
"""How often it is killed while it still starts."""
_IMPORTS_PATIENCE_SECONDS = 60
"""How long all imports may take that are left at the end."""


@dataclass
class Outcome:
    """What came of a trial: how often the service was killed, what was acknowledged and compared, and what was wrong."""

    kills: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    uncertain: int = 0
    """How many images were in the middle of something when the service was killed."""
    problems: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """A service, its clients, and what was found."""

    service: Process
    gate: Gate
    clients: list[LoadClient]
    refused: list[Content]
    lot: random.Random
    outcome: Outcome = field(default_factory=Outcome)

    def kill_once(self) -> None:
        """Starts the service, compares what it has, lets the clients work for a while, and kills it."""
        self.service.start()
        if self.lot.random() >= _AT_START:
            client = self.service.client()
            self._compare(client, everything=False)
            self.gate.open(client)
            enough = self._acknowledged() + self.lot.randrange(_MOST_ANSWERS)
            wait_until(lambda: self._acknowledged() >= enough or self._problems())
        time.sleep(self.lot.uniform(0, _LONGEST_SECONDS))
        self.service.kill()
        self.gate.close()
        self.outcome.kills += 1

    def end(self) -> None:
        """Waits for what is still under way, and compares all."""
        self._end_leases()
        self.service.start()
        client = self.service.client()
        # Of an import that was asked for nobody may know, if the kill came before it was recorded: the tasks tell.
        with contextlib.suppress(AssertionError):  # what did not come is told by the comparison
            wait_until(lambda: not self._open_tasks(), _IMPORTS_PATIENCE_SECONDS)
        for held in self._held():
            held.states = {State(ACTIVE, state.content) if state.name == COMING else state for state in held.states}
        self._compare(client, everything=True)
        self.service.kill()

    def _acknowledged(self) -> int:
        return sum(sum(one.done.values()) for one in self.clients)

    def _problems(self) -> list[str]:
        return [problem for one in self.clients for problem in one.problems]

    def _end_leases(self) -> None:
        """Has the leases run out of those who are dead, for which the service would wait a minute."""
        with contextlib.closing(open_database(self._settings.database_url)) as database, database.write() as connection:
            connection.execute(update(tasks).values(leased_until=now()))

    def _open_tasks(self) -> list[Task]:
        with contextlib.closing(open_database(self._settings.database_url)) as database, database.read() as connection:
            return [one for status in (PENDING, PROCESSING) for one in list_tasks(connection, status=status)]

    @property
    def _settings(self) -> Settings:
        return read_settings(None, self.service.settings, {})

    def _compare(self, client: Client, *, everything: bool) -> None:
        self.outcome.problems += [f"fsck: {finding}" for finding in self._findings()]
        for held in self._held():
            self.outcome.uncertain += len(held.states) > 1
            if everything or len(held.states) > 1 or self.lot.random() < 0.3:
                self.outcome.compared += 1
                self.outcome.problems += _compare_image(client, held)
        for one in self.clients:
            one.images = {held.id: held for held in one.images.values() if held.states != {State(ABSENT)}}

    def _held(self) -> list[Held]:
        return [held for one in self.clients for held in one.images.values()]

    def _findings(self) -> Iterator[str]:
        stores = stores_of(self._settings)
        with contextlib.closing(open_database(self._settings.database_url)) as database:
            found = list(check_service(database, stores, repair=False))
        yield from (str(one) for one in found if one.kind not in HARMLESS)
        kept = {digest for store in stores.values() for digest in store.digests()}
        yield from (f"refused bytes are kept as {one.digest}" for one in self.refused if one.digest in kept)


def _compare_image(client: Client, held: Held) -> Iterator[str]:
    """Yields what is wrong with an image after a restart; notes in what state it is."""
    answer = client.get(f"/v2/images/{held.id}")
    status = answer.json["status"] if answer.status == 200 else None
    mark = answer.json.get("mark") if answer.status == 200 else None
    fitting = {state for state in held.states if state.fits(status)}
    if answer.status not in (200, 404) or not fitting:
        yield f"image {held.id} is {status} ({answer.status}), and may be one of {held.states}: {answer.body[:500]!r}"
    if status is not None and mark not in held.marks:
        yield f"image {held.id} has the mark {mark}, and may have one of {held.marks}"
    if status == "active":
        digest = blake3(client.get(f"/v2/images/{held.id}/file").body).hexdigest()
        fitting = {state for state in fitting if state.content is not None and state.content.digest == digest}
        if not fitting:
            yield f"image {held.id} has other bytes than were uploaded"
        fitting = {State(ACTIVE, state.content) for state in fitting}
    held.states, held.marks = fitting or {State(ABSENT)}, {mark}


def run(
    folder: Path,
    kills: int,
    workers: int,
    seed: int,
    tell: Callable[[Outcome], object] = lambda _: None,
    database: str = "",
) -> Outcome:
    """Kills the service `kills` times; its records are at `database`, or "" in SQLite.

    `tell` is called with what was found so far, again and again.
    """
    lot = random.Random(seed)
    sound, refused = sound_contents(lot), refused_contents(lot)
    gate = Gate(CLIENTS)
    clients = [LoadClient(gate, seed + number, sound, refused) for number in range(CLIENTS)]
    with process(folder, workers, database) as service:
        trial = Trial(service, gate, clients, refused, lot)
        for one in clients:
            one.start()
        try:
            while trial.outcome.kills < kills:
                trial.kill_once()
                tell(trial.outcome)
            trial.end()
        finally:
            gate.end()
            for one in clients:
                one.join()
    outcome = trial.outcome
    outcome.problems += trial._problems()
    for one in clients:
        outcome.acknowledged.update(one.done)
    if "Traceback" in service.log():
        outcome.problems.append(f"the service logged an error: {service.log()[-3000:]}")
    return outcome
