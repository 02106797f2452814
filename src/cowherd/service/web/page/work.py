"""Uploads and tasks under way, and what failed lately, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.pages.markup import Severity, count_of, marked, text
from cowherd.service.intake.resumable import RESUMABLE
from cowherd.service.intake.staging import STAGE
from cowherd.service.intake.upload import FILE, IMPORT
from cowherd.service.records.tasks import PENDING
from cowherd.service.tasks import downloads, imports, locating, standalone
from cowherd.service.web.page.disk import arrival_of
from cowherd.service.web.page.words import ago, link_to, name_of, size_of, span_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from cowherd.service.records.tasks import Task
    from cowherd.service.records.uploads import UploadRecord
    from cowherd.service.web.call import Call
    from cowherd.service.web.page.disk import Arrival
    from cowherd.service.web.page.facts import Facts

SILENT_SECONDS = 60
"""After how long without a byte an upload is said to wait."""
_KINDS = {FILE: "upload", IMPORT: "import", STAGE: "staged", RESUMABLE: "resumable upload"}
_TASKS = {
    downloads.TYPE: "import by download",
    locating.TYPE: "reading a location",
    standalone.TYPE: "making a standalone image",
}
_UPLOAD_COLUMNS = ("image", "what", "arrived", "rate", "began", "store")
_TASK_COLUMNS = ("image", "what", "state", "began")


def under_way(call: Call, facts: Facts) -> Iterator[str]:
    """Yields the uploads and tasks under way."""
    if not (facts.uploads or facts.tasks):
        yield "<p class=faint>Nothing is under way.</p>"
    if facts.uploads:
        rows = (_upload(call, one, _link("", facts, one.image_id), facts.now) for one in facts.uploads)
        yield from table("uploads", _UPLOAD_COLUMNS, rows)
        yield from _left_out(facts.uploads_in_all, len(facts.uploads), "upload")
    if facts.tasks:
        yield from table("tasks", _TASK_COLUMNS, (_task(one, _link("", facts, one.image_id), facts.now) for one in facts.tasks))


def failed(facts: Facts) -> Iterator[str]:
    """Yields what failed lately, and why."""
    if not (facts.failures or facts.failed):
        yield "<p class=faint>Nothing was refused.</p>"
    if facts.failures:
        yield "<ul class=reasons>"
        for event in facts.failures:
            image = _link("", facts, event.image_id, event.detail.get("name"))
            reason = text(str(event.detail.get("reason") or ""))
            yield f"<li><p>{marked(Severity.WARN, image)} <span class=faint>{ago(event.at, facts.now)}</span></p>"
            yield f"<p>{reason}</p></li>"
        yield "</ul>"
        yield from _left_out(facts.failures_in_all, len(facts.failures), "refusal")
    if facts.failed:
        yield "<h3>Tasks that failed in two days</h3><ul class=reasons>"
        for task in facts.failed:
            yield f"<li><p>{marked(Severity.WARN, what_of(task))}: {_link('', facts, task.image_id)} "
            yield f"<span class=faint>{ago(task.updated_at, facts.now)}</span></p><p>{text(task.message)}</p></li>"
        yield "</ul>"


def table(label: str, columns: Iterable[str], rows: Iterable[str]) -> Iterator[str]:
    """Yields a table that can be scrolled sideways where it is too wide, also by keys."""
    heads = "".join(f"<th scope=col>{name}</th>" for name in columns)
    yield f"<div class=scroll tabindex=0 role=region aria-label='{label}'><table class=list>"
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    yield from rows
    yield "</tbody></table></div>"


def what_of(task: Task) -> str:
    """Returns what a task does, as HTML."""
    if task.type != imports.TYPE:
        return text(_TASKS.get(task.type, task.type))
    try:
        return f"import by {text(str(task.input['import_req']['method']['name']))}"
    except (KeyError, TypeError):  # whoever asked for this task itself may have given it anything
        return "import"


def _upload(call: Call, upload: UploadRecord, image: str, now: datetime) -> str:
    arrival = arrival_of(call.service.stores, upload)
    cells = (
        *(image, text(_KINDS.get(upload.kind, upload.kind)), _arrived(upload, arrival), _rate(upload, arrival, now)),
        *(ago(upload.created_at, now), f"<bdi class=name>{text(upload.store)}</bdi>"),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _arrived(upload: UploadRecord, arrival: Arrival | None) -> str:
    arrived = upload.offset if arrival is None else arrival.arrived
    if not upload.length:
        return size_of(arrived)
    bar = f"<progress max={upload.length} value={min(arrived, upload.length)} aria-label='part that arrived'></progress>"
    return f"{bar} {size_of(arrived)} of {size_of(upload.length)}"


def _rate(upload: UploadRecord, arrival: Arrival | None, now: datetime) -> str:
    if arrival is None:
        return "?"
    silent = (now - arrival.last).total_seconds()
    if upload.kind == STAGE and upload.offset:
        return "waits to be imported"
    if silent > SILENT_SECONDS:
        return f"waits: nothing came for {span_of(silent)}"
    return f"{size_of(int(arrival.rate))}/s"


def _task(task: Task, image: str, now: datetime) -> str:
    state = "waits for its turn" if task.status == PENDING else "runs"
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in (image, what_of(task), state, ago(task.created_at, now)))}</tr>"


def _link(home: str, facts: Facts, image_id: str | None, name: object = None) -> str:
    """Returns a link to an image that is there, or else the name that it had."""
    if image_id is None:
        return "an image"
    if image_id in facts.names:
        return link_to(home, facts.names[image_id], image_id)
    return f"{name_of(str(name) if name else None, image_id)} <small>deleted</small>"


def _left_out(in_all: int, shown: int, noun: str) -> Iterator[str]:
    if in_all > shown:
        yield f"<p class=faint>These are the latest {shown} of {count_of(in_all, noun)}.</p>"
