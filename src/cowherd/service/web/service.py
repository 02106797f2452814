"""The service as the routes see it: the database, the stores, the settings, and who knows the callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cowherd.service.intake.arriving import Intake
    from cowherd.service.intake.resumable import Sessions
    from cowherd.service.records.database import Database
    from cowherd.service.tasks.runner import Runner
    from cowherd.service.web.callers import Auth
    from cowherd.service.web.settings import Settings
    from cowherd.stores.directory import DirectoryStore


@dataclass(frozen=True)
class Service:
    """All that handlers share."""

    settings: Settings
    auth: Auth
    database: Database
    stores: Mapping[str, DirectoryStore]
    """The stores by name; the first one is where uploads go."""

    intakes: Callable[[str], Intake]
    """Where content goes, for the name of a store."""
    runner: Runner
    sessions: Sessions
    """The resumable uploads of this process."""

    @property
    def default_store(self) -> str:
        """The name of the store that uploads go to."""
        return next(iter(self.stores))
