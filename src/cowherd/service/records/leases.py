"""Leases: of several processes, one at a time does a work that is named. If it dies, another one does it after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, or_, select, update

from cowherd.service.records.image import now
from cowherd.service.records.schema import leases

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy import Connection


def take_lease(connection: Connection, name: str, holder: str, length: timedelta) -> bool:
    """Has `holder` do the work `name` from now on for `length`, or on; returns False while another one does it."""
    moment = now()
    values = {"holder": holder, "leased_until": moment + length}
    # A lease that ends later than one given now was given by a clock that was ahead.
    free = or_(leases.c.holder == holder, leases.c.leased_until < moment, leases.c.leased_until > moment + length)
    if connection.execute(update(leases).where(leases.c.name == name, free).values(values)).rowcount:
        return True
    if connection.execute(select(leases.c.name).where(leases.c.name == name)).first() is not None:
        return False
    connection.execute(insert(leases), {"name": name, **values})
    return True


def end_lease(connection: Connection, name: str, holder: str) -> None:
    """Lets others do the work `name` at once, if `holder` has it."""
    connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
