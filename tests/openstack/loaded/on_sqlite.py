"""Transactions that several processes and threads can have at once on SQLite, for keystone and Glance.

uwsgi loads this before them, from a folder in which nothing hides their modules.

Both read before they write in one transaction. SQLite refuses the write at once if another has written in between
("database is locked"): keystone then answers nothing, and a task of Glance stays pending for ever. A transaction that is a writer
from its begin waits instead.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def begin_as_writer(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
) -> tuple[str, Any]:
    """Has a transaction begin as a writer."""
    return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), parameters
