"""A database as another process has it."""

from __future__ import annotations

import contextlib

from cowherd.service.records.database import Database, open_database


def opened_again(database: Database) -> contextlib.closing[Database]:
    """Gives the same database, opened anew: nothing of this process is shared with the one that was given."""
    return contextlib.closing(open_database(database.engine.url.render_as_string(hide_password=False)))
