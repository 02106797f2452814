"""The settings that hold, and what follows them: a service whose settings change goes on answering."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from cowherd.errors import CowherdError
from cowherd.service.keeping.duties import Care, duties
from cowherd.service.keeping.keeper import Keeper
from cowherd.service.web.app import App

if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.service.web.service import Service
    from cowherd.service.web.settings import Settings

OF_THE_START = ("data", "listen", "socket", "workers", "database", "stores")
"""The settings that hold until the service ends."""
_log = logging.getLogger("cowherd.service")


class Held:
    """The settings that hold. Attribute: `settings`."""

    def __init__(self, settings: Settings, read: Callable[[], Settings]):
        self.settings, self._read = settings, read

    def reread(self, use: Callable[[Settings], None]) -> bool:
        """Reads the settings again, gives them to `use`, and returns whether they hold now.

        If they make no sense, or `use` raises `CowherdError`, those from before go on to hold, and the log says why.
        """
        try:
            kept = {name: getattr(self.settings, name) for name in OF_THE_START}
            new = dataclasses.replace(self._read(), **kept)
            use(new)
        except CowherdError as error:
            _log.error("the settings stay as they are: %s", error)
            return False
        self.settings = new
        return True


class Running:
    """A service that answers as `app`, with the keeper of its stores. A context manager that ends it.

    Its settings may change while it answers: requests and tasks that are under way end by those with which they began.
    """

    def __init__(self, service: Service):
        self.app = App(service)
        self._keeper, self._rest = contextlib.ExitStack(), contextlib.ExitStack()

    def __enter__(self) -> Self:
        service = self.app.service
        self._rest.callback(service.database.close)
        self._rest.enter_context(service.runner)
        self._rest.callback(service.sessions.close)
        self._keeper.enter_context(_keeper_of(service))
        return self

    def __exit__(self, *exc: object) -> None:
        self._keeper.close()
        self._rest.close()

    def become(self, service: Service) -> None:
        """Answers as another service over the same data from now on.

        If its stores are to be kept otherwise, this waits for the keeper to pause, which takes seconds.
        """
        before, self.app.service = self.app.service, service
        if care_of(service.settings) != care_of(before.settings):
            self._keeper.close()
            self._keeper.enter_context(_keeper_of(service))


def care_of(settings: Settings) -> Care:
    """Returns how the stores are to be kept."""
    return Care(timedelta(seconds=settings.reap_after), timedelta(days=settings.scrub_days), settings.scrub_rate or None)


def _keeper_of(service: Service) -> Keeper:
    return Keeper(service.database, duties(service.database, service.stores, care_of(service.settings)))
