"""Runs the service: readies its data, listens, and answers in one process or several."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError, HostFileError, InvalidRequest
from cowherd.herd.watch.reporting.systemd import Systemd
from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.inspection import Rules
from cowherd.service.intake.resumable import Sessions
from cowherd.service.keeping.duties import Care, duties
from cowherd.service.keeping.keeper import Keeper
from cowherd.service.keeping.recovery import recover
from cowherd.service.records.database import open_database
from cowherd.service.records.migration import migrate
from cowherd.service.records.quotas import Resource, replace_quotas
from cowherd.service.tasks import imports, locating, standalone
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.tasks.regions import RegionUnknown
from cowherd.service.tasks.runner import Runner
from cowherd.service.web.app import make_app
from cowherd.service.web.callers import Auth, NoAuth, TokenAuth
from cowherd.service.web.keystone import KeystoneAuth
from cowherd.service.web.service import Service
from cowherd.service.web.serving.server import Life, serve
from cowherd.service.web.serving.sockets import is_loopback, listening, url_of
from cowherd.service.web.serving.workers import Workers
from cowherd.service.web.settings import quotas_of
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.service.web.settings import Settings

_OF_THE_START = ("data", "listen", "socket", "workers", "database", "stores")
"""The settings that hold until the service ends."""
_log = logging.getLogger("cowherd.service")


def run_service(settings: Settings, say: Callable[[str], None], read_again: Callable[[], Settings]) -> None:
    """Answers requests until SIGTERM or SIGINT. Calls `say` with where it listens once it answers.

    At SIGHUP the settings are `read_again`, and hold from then on, but for the data, the address and the number of workers.
    Raises `HostFileError` if the host refuses the directories or the socket, `InvalidRequest` for a socket that anybody reaches.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="cowherd: %(message)s")
    prepare(settings)
    path = None if settings.listen else settings.socket_path
    with listening(settings.listen or None, path) as bound:
        check_reach(bound, settings)
        systemd = Systemd()

        def answers() -> None:
            say(f"serving on {url_of(bound)}")
            systemd.tell("READY=1")

        def work(told: Callable[[], None]) -> None:
            life = Life(threading.Event(), systemd.watchdog_seconds, lambda: systemd.tell("WATCHDOG=1"))
            signal.signal(signal.SIGHUP, lambda *_: life.hangup.set())
            now = _read_again(settings, read_again)  # which may have changed since this process's parent began
            while _serve_once(now, bound, told, life):
                life.hangup.clear()
                now, told = _read_again(now, read_again), lambda: None

        if settings.workers == 1:
            work(answers)
        else:
            Workers(settings.workers, work).run(answers)
        systemd.tell("STOPPING=1")


def _serve_once(settings: Settings, bound: socket.socket, told: Callable[[], None], life: Life) -> bool:
    service = open_service(settings)
    sessions = contextlib.closing(service.sessions)
    with contextlib.closing(service.database), service.runner, sessions, keeper_of(service):
        return serve(make_app(service), bound, told, life)


def _read_again(settings: Settings, read_again: Callable[[], Settings]) -> Settings:
    """Returns the settings as they are now, or those that held until now if they make no sense, which the log says."""
    try:
        new = read_again()
    except CowherdError as error:
        _log.error("the settings stay as they are: %s", error)
        return settings
    return dataclasses.replace(new, **{name: getattr(settings, name) for name in _OF_THE_START})


def check_reach(bound: socket.socket, settings: Settings) -> None:
    """Raises `InvalidRequest` if callers need not be known and others than this host's reach the socket, as systemd opened it."""
    if settings.auth == "none" and bound.family != socket.AF_UNIX and not is_loopback(bound.getsockname()[0]):
        raise InvalidRequest(f"everybody who reaches {url_of(bound)} could do anything: use --auth tokens or keystone there")


def open_service(settings: Settings) -> Service:
    """Returns the service over data that are ready."""
    database, stores = open_database(settings.database_url), stores_of(settings)
    of_projects = {(name, Resource(what)): amount for (name, what), amount in quotas_of(settings).items() if name is not None}
    with database.write() as connection:
        replace_quotas(connection, of_projects)

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
        locating.TYPE: located.run,
        standalone.TYPE: standalone.Standalones(database, stores, intake_of).run,
    }
    runner = Runner(database, works)
    return Service(settings, auth, database, stores, intake_of, runner, Sessions())


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


def keeper_of(service: Service) -> Keeper:
    """Returns what keeps the stores of a service in order."""
    settings = service.settings
    care = Care(timedelta(seconds=settings.reap_after), timedelta(days=settings.scrub_days), settings.scrub_rate or None)
    return Keeper(service.database, duties(service.database, service.stores, care))


def auth_of(settings: Settings) -> Auth:
    """Returns what knows the callers."""
    if settings.auth == "keystone":
        return KeystoneAuth(settings.keystone)
    return TokenAuth(settings.tokens_path) if settings.auth == "tokens" else NoAuth()


def prepare(settings: Settings) -> None:
    """Readies the data before any process answers: makes what is missing, brings the records to the form of this version.

    Uploads that a service left which was killed are ended.
    """
    try:
        os.makedirs(settings.data, 0o700, exist_ok=True)
    except OSError as error:
        raise HostFileError(settings.data, "make", error) from error
    stores = stores_of(settings)
    for store in stores.values():
        store.prepare()
    database = open_database(settings.database_url)
    try:
        migrate(database)
        recover(database, stores)
    finally:
        database.close()


def stores_of(settings: Settings) -> dict[str, DirectoryStore]:
    """Returns the stores by their names, in the order of the settings."""
    return {name: DirectoryStore(name, directory) for name, directory in settings.store_directories.items()}
