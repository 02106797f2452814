"""Runs the service: readies its data, listens, and answers in one process or several."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from cowherd.errors import HostFileError
from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.inspection import Rules
from cowherd.service.intake.resumable import Sessions
from cowherd.service.keeping.duties import Care, duties
from cowherd.service.keeping.keeper import Keeper
from cowherd.service.keeping.recovery import recover
from cowherd.service.records.database import open_database
from cowherd.service.records.migration import migrate
from cowherd.service.tasks import imports, locating
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.tasks.regions import RegionUnknown
from cowherd.service.tasks.runner import Runner
from cowherd.service.web.app import make_app
from cowherd.service.web.callers import Auth, NoAuth, TokenAuth
from cowherd.service.web.keystone import KeystoneAuth
from cowherd.service.web.service import Service
from cowherd.service.web.serving.server import serve
from cowherd.service.web.serving.sockets import listening, url_of
from cowherd.service.web.serving.workers import Workers
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.service.web.settings import Settings


def run_service(settings: Settings, say: Callable[[str], None]) -> None:
    """Answers requests until SIGTERM or SIGINT. Calls `say` with where it listens once it answers.

    Raises `HostFileError` if the host refuses the directories or the socket.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="cowherd: %(message)s")
    prepare(settings)
    path = None if settings.listen else settings.socket_path
    with listening(settings.listen or None, path) as bound:
        where = f"serving on {url_of(bound)}"

        def work(answers: Callable[[], None]) -> None:
            service = open_service(settings)
            sessions = contextlib.closing(service.sessions)
            with contextlib.closing(service.database), service.runner, sessions, keeper_of(service):
                serve(make_app(service), bound, answers)

        if settings.workers == 1:
            work(lambda: say(where))
        else:
            Workers(settings.workers, work).run(lambda: say(where))


def open_service(settings: Settings) -> Service:
    """Returns the service over data that are ready."""
    database, stores = open_database(settings.database_url), stores_of(settings)

    def intake_of(name: str) -> Intake:
        rules = Rules(match_format=settings.require_format_match)
        return Intake(database, stores[name], rules, settings.hash_algorithm, settings.md5, settings.image_size_cap)

    auth, addresses = auth_of(settings), Addresses(settings.import_allowed)
    located = locating.Locating(database, addresses, settings.hash_algorithm, settings.md5, settings.image_size_cap)
    works = {
        imports.TYPE: imports.Imports(database, stores, intake_of, addresses, endpoints_of(settings, auth)).run,
        locating.TYPE: located.run,
    }
    runner = Runner(database, works)
    return Service(settings, auth, database, stores, intake_of, runner, Sessions())


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
