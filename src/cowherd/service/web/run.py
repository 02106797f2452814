"""Runs the service: readies its data, listens, and answers in one process or several."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.herd.watch.reporting.systemd import Systemd
from cowherd.service import counting
from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.inspection import Rules
from cowherd.service.intake.resumable import Sessions
from cowherd.service.keeping.recovery import recover
from cowherd.service.records.database import open_database
from cowherd.service.records.migration import migrate, migrate_apart
from cowherd.service.records.quotas import Resource, replace_quotas
from cowherd.service.tasks import downloads, imports, locating, standalone
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.tasks.regions import RegionUnknown
from cowherd.service.tasks.runner import Runner
from cowherd.service.web.callers import Auth, NoAuth, TokenAuth
from cowherd.service.web.keystone import KeystoneAuth
from cowherd.service.web.measuring import Measured
from cowherd.service.web.reloading import Held, Running
from cowherd.service.web.service import Service
from cowherd.service.web.serving.hangups import Hangups
from cowherd.service.web.serving.server import Life, serve
from cowherd.service.web.serving.sockets import is_loopback, listening, url_of
from cowherd.service.web.serving.watchdog import Watchdog
from cowherd.service.web.serving.workers import Workers
from cowherd.service.web.settings import quotas_of
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cowherd.service.records.database import Database
    from cowherd.service.web.settings import Settings


def run_service(settings: Settings, say: Callable[[str], None], read_again: Callable[[], Settings]) -> None:
    """Answers requests until SIGTERM or SIGINT. Calls `say` with where it listens once it answers.

    At SIGHUP the settings are `read_again`, and hold from then on, but for the data, the address, the stores and the number of
    processes; no connection ends by that.
    Raises `HostFileError` if the host refuses the directories or the socket, `InvalidRequest` for a socket that anybody reaches.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="cowherd: %(message)s")
    _make_data(settings)
    migrate_apart(settings.database_url)
    prepare(settings)
    path = None if settings.listen else settings.socket_path
    with listening(settings.listen or None, path) as bound:
        check_reach(bound, settings)
        systemd = Systemd()

        def answers() -> None:
            say(f"serving on {url_of(bound)}")
            systemd.tell("READY=1")

        processes = _Processes(bound, Held(settings, read_again), systemd)
        run = processes.be_one if settings.workers == 1 else processes.be_several
        run(answers)
        systemd.tell("STOPPING=1")


class _Processes:
    """The one process that answers on a socket, or the several: what they do at SIGHUP, and what they tell systemd."""

    def __init__(self, bound: socket.socket, held: Held, systemd: Systemd):
        self._bound, self._held, self._systemd = bound, held, systemd
        self._life = Life(systemd.watchdog_seconds, lambda: systemd.tell("WATCHDOG=1"))

    def be_one(self, answers: Callable[[], None]) -> None:
        """Answers in this process."""

        def reload(running: Running) -> None:
            def use(new: Settings) -> None:
                self._ready(new)
                running.become(reopened(running.app.service, new))

            self._reread(use)
            self._tell_ready()

        self._answer(answers, reload, self._life)

    def be_several(self, answers: Callable[[], None]) -> None:
        """Answers in processes that this one minds. It alone says what is wrong with new settings."""

        def reload() -> bool:
            makes_sense = self._reread(self._ready)
            if not makes_sense:
                self._tell_ready()
            return makes_sense

        count = self._held.settings.workers
        counting.share(count)
        watchdog = Watchdog(count, self._life)

        def work(place: int, tell: Callable[[], None]) -> None:
            counting.be_process(place)
            self._work(tell, watchdog.life_of(place))

        Workers(count, work).run(answers, reload, self._tell_ready)

    def _work(self, tell: Callable[[], None], life: Life) -> None:
        def reload(running: Running) -> None:
            self._held.reread(lambda new: running.become(reopened(running.app.service, new)))
            tell()

        self._answer(tell, reload, life)

    def _answer(self, answers: Callable[[], None], reload: Callable[[Running], None], life: Life) -> None:
        with (
            Hangups() as hangups,
            Running(open_service(self._held.settings)) as running,
            hangups.calling(lambda: reload(running)),
        ):
            serve(Measured(running.app), self._bound, answers, life)

    def _reread(self, use: Callable[[Settings], None]) -> bool:
        self._systemd.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        return self._held.reread(use)

    def _ready(self, settings: Settings) -> None:
        """Readies the records for settings. Raises `InvalidRequest` for those by which no process could go on."""
        check_reach(self._bound, settings)
        auth_of(settings)
        with contextlib.closing(open_database(settings.database_url)) as database:
            store_quotas(database, settings)

    def _tell_ready(self) -> None:
        self._systemd.tell("READY=1")


def check_reach(bound: socket.socket, settings: Settings) -> None:
    """Raises `InvalidRequest` if callers need not be known and others than this host's reach the socket, as systemd opened it."""
    if settings.auth == "none" and bound.family != socket.AF_UNIX and not is_loopback(bound.getsockname()[0]):
        raise InvalidRequest(f"everybody who reaches {url_of(bound)} could do anything: use --auth tokens or keystone there")


def open_service(settings: Settings) -> Service:
    """Returns the service over data that are ready."""
    database = open_database(settings.database_url)
    return _service_of(settings, database, stores_of(settings), Runner(database, {}), Sessions())


def reopened(service: Service, settings: Settings) -> Service:
    """Returns the service with other settings, over the same data. Its runner does new tasks by them."""
    return _service_of(settings, service.database, service.stores, service.runner, service.sessions)


def _service_of(
    settings: Settings, database: Database, stores: Mapping[str, DirectoryStore], runner: Runner, sessions: Sessions
) -> Service:
    certificates = settings.signatures_certificates

    def intake_of(name: str) -> Intake:
        rules = Rules(match_format=settings.require_format_match)
        return Intake(
            database,
            stores[name],
            rules,
            settings.hash_algorithm,
            settings.md5,
            settings.image_size_cap,
            default_quotas(settings),
            certificates=certificates,
        )

    auth, addresses = auth_of(settings), Addresses(settings.import_allowed)
    located = locating.Locating(database, addresses, settings.hash_algorithm, settings.md5, settings.image_size_cap, certificates)
    imported = imports.Imports(database, stores, intake_of, addresses, endpoints_of(settings, auth), settings.import_convert)
    works = {
        imports.TYPE: imported.run,
        downloads.TYPE: downloads.Downloads(imported, next(iter(stores))).run,
        locating.TYPE: located.run,
        standalone.TYPE: standalone.Standalones(database, stores, intake_of).run,
    }
    runner.use(works)
    return Service(settings, auth, database, stores, intake_of, runner, sessions)


def store_quotas(database: Database, settings: Settings) -> None:
    """Has the records say what the settings allow each project by name."""
    of_projects = {(name, Resource(what)): amount for (name, what), amount in quotas_of(settings).items() if name is not None}
    with database.write() as connection:
        replace_quotas(connection, of_projects)


def default_quotas(settings: Settings) -> dict[Resource, int]:
    """Returns what a project may have of which nothing else is said."""
    return {Resource(resource): amount for (project, resource), amount in quotas_of(settings).items() if project is None}


def endpoints_of(settings: Settings, auth: Auth) -> Callable[[str, str, str], str]:
    """Returns what knows other image services: the settings, and then the identity service."""
    set_here = dict(entry.split("=", 1) for entry in settings.regions)

    def endpoint_of(token: str, region: str, interface: str) -> str:
        if region in set_here:
            return set_here[region]
        if isinstance(auth, KeystoneAuth):
            return auth.endpoint_of(token, region, interface)
        raise RegionUnknown(region, interface)

    return endpoint_of


def auth_of(settings: Settings) -> Auth:
    """Returns what knows the callers."""
    if settings.auth == "keystone":
        return KeystoneAuth(settings.keystone)
    return TokenAuth(settings.tokens_path) if settings.auth == "tokens" else NoAuth()


def prepare(settings: Settings) -> None:
    """Readies the data before any process answers: makes what is missing, brings the records to the form of this version.

    Uploads that a service left which was killed are ended.
    """
    _make_data(settings)
    stores = stores_of(settings)
    for store in stores.values():
        store.prepare()
    database = open_database(settings.database_url)
    try:
        migrate(database)
        store_quotas(database, settings)
        recover(database, stores)
    finally:
        database.close()


def _make_data(settings: Settings) -> None:
    try:
        os.makedirs(settings.data, 0o700, exist_ok=True)
    except OSError as error:
        raise HostFileError(settings.data, "make", error) from error


def stores_of(settings: Settings) -> dict[str, DirectoryStore]:
    """Returns the stores by their names, in the order of the settings."""
    return {name: DirectoryStore(name, directory) for name, directory in settings.store_directories.items()}
