"""Tasks: work that goes on after the answer. A process leases the one that it works on: if it dies, another one takes it over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import and_, delete, insert, or_, select, tuple_, update

from cowherd.service.records.faults import LeaseLost, TaskNotFound
from cowherd.service.records.image import now
from cowherd.service.records.schema import tasks

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

PENDING, PROCESSING, SUCCESS, FAILURE = "pending", "processing", "success", "failure"
"""The states of a task."""
MESSAGE = "message"
"""Where the progress of a task keeps a sentence about what is being done."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work of the kind `type` for the project `owner`.

    `input` says what to do, `result` what came of it; `message` is a sentence about a failure. `holder` names the process that
    works on it, which has it until `leased_until`.
    """

    id: str
    type: str
    status: str = PENDING
    owner: str | None = None
    image_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    input: dict[str, Any] = {}
    result: Any = None
    message: str = ""
    progress: dict[str, Any] = {}
    holder: str | None = None
    leased_until: datetime | None = None
    created_at: datetime = msgspec.field(default_factory=now)
    updated_at: datetime = msgspec.field(default_factory=now)
    expires_at: datetime | None = None


def create_task(connection: Connection, task: Task) -> None:
    """Records a new task."""
    connection.execute(insert(tasks), msgspec.structs.asdict(task))


def read_task(connection: Connection, task_id: str) -> Task:
    """Returns a task. Raises `TaskNotFound`."""
    row = connection.execute(select(tasks).where(tasks.c.id == task_id)).first()
    if row is None:
        raise TaskNotFound(task_id)
    return Task(**row._asdict())


def list_tasks(
    connection: Connection,
    *,
    owner: str | None = None,
    image_id: str | None = None,
    type: str | None = None,
    status: str | None = None,
    marker: str | None = None,
    limit: int | None = None,
) -> list[Task]:
    """Returns tasks with the given facts, the latest first, those after the task `marker`. Raises `TaskNotFound` for that."""
    asked = select(tasks).order_by(tasks.c.created_at.desc(), tasks.c.id.desc())
    facts = {tasks.c.owner: owner, tasks.c.image_id: image_id, tasks.c.type: type, tasks.c.status: status}
    asked = asked.where(*(column == value for column, value in facts.items() if value is not None))
    if marker is not None:
        last = read_task(connection, marker)
        asked = asked.where(tuple_(tasks.c.created_at, tasks.c.id) < (last.created_at, last.id))
    return [Task(**row._asdict()) for row in connection.execute(asked.limit(limit))]


def take_task(connection: Connection, holder: str, lease: timedelta, types: Collection[str]) -> Task | None:
    """Leases the eldest task of some types that nobody works on, and returns it, or None if there is none.

    Of two processes that ask at once, each gets another one. A task whose lease has run out is given anew.
    """
    while True:
        moment = now()
        free = and_(tasks.c.type.in_(sorted(types)), _free(moment, lease))
        found = connection.execute(select(tasks.c.id).where(free).order_by(tasks.c.created_at, tasks.c.id).limit(1)).scalar()
        if found is None:
            return None
        values = {"status": PROCESSING, "holder": holder, "leased_until": moment + lease, "updated_at": moment}
        if connection.execute(update(tasks).where(tasks.c.id == found, free).values(values)).rowcount == 1:
            return read_task(connection, found)


def _free(moment: datetime, lease: timedelta) -> Any:
    until = tasks.c.leased_until
    # A lease that ends later than one given now was given by a clock that was ahead.
    lapsed = and_(tasks.c.status == PROCESSING, or_(until.is_(None), until < moment, until > moment + lease))
    return or_(tasks.c.status == PENDING, lapsed)


def renew_lease(connection: Connection, task_id: str, holder: str, lease: timedelta, progress: dict[str, Any]) -> None:
    """Keeps a task for its holder, and records how far it has come. Raises `LeaseLost` if another one has it."""
    moment = now()
    _change_held(connection, task_id, holder, leased_until=moment + lease, updated_at=moment, progress=progress)


def note_progress(connection: Connection, task_id: str, progress: dict[str, Any]) -> None:
    """Records how far a task has come."""
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(progress=progress, updated_at=now()))


def finish_task(
    connection: Connection, task_id: str, holder: str, *, result: Any = None, failure: str | None = None, expires_at: datetime
) -> None:
    """Records that a task has succeeded, or failed for the reason `failure`. Raises `LeaseLost` if another process has it."""
    # What a task kept while it was under way, as a token, nobody needs any more.
    values = {"status": SUCCESS if failure is None else FAILURE, "message": failure or "", "result": result, "progress": {}}
    _change_held(connection, task_id, holder, **values, holder=None, leased_until=None, updated_at=now(), expires_at=expires_at)


def _change_held(connection: Connection, task_id: str, held_by: str, **values: Any) -> None:
    held = and_(tasks.c.id == task_id, tasks.c.status == PROCESSING, tasks.c.holder == held_by)
    if connection.execute(update(tasks).where(held).values(values)).rowcount == 0:
        raise LeaseLost(task_id, held_by)


def forget_tasks(connection: Connection, moment: datetime) -> int:
    """Forgets the tasks that are to be kept until before `moment`; returns how many."""
    return connection.execute(delete(tasks).where(tasks.c.expires_at < moment)).rowcount
