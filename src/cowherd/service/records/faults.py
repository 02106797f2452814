"""What the records refuse, and why.

CowherdError
    RecordError
        ImageNotFound, ImageExists, ImageChanged, StatusConflict, MarkerNotFound
        MemberNotFound, MemberExists
        TaskNotFound, LeaseLost
        DefinitionNotFound, DefinitionExists
        QuotaExceeded
        Unstorable
        DatabaseUnavailable
            DatabaseBusy, DatabaseFull, DatabaseDamaged
        DatabaseTooNew
    InvalidRequest
        UnknownDatabase, DriverMissing, EncodingDiffers
"""

from __future__ import annotations

from sqlalchemy.exc import DontWrapMixin

from cowherd.distribution import how_to_install
from cowherd.errors import CowherdError, InvalidRequest
from cowherd.text import printable


class RecordError(CowherdError):
    """Root of the errors of the records."""


class ImageNotFound(RecordError):
    """There is no record of the image `image_id`."""

    def __init__(self, image_id: str):
        super().__init__(f"There is no image {printable(image_id)}.")
        self.image_id = image_id


class ImageExists(RecordError):
    """There is a record with the id of an image that shall be created."""

    def __init__(self, image_id: str):
        super().__init__(f"There is an image {printable(image_id)} already.")
        self.image_id = image_id


class ImageChanged(RecordError):
    """Another request changed the image `image_id` since it was read at `version`. Read it again, and repeat the change."""

    def __init__(self, image_id: str, version: int):
        super().__init__(f"Image {image_id} was changed by another request meanwhile. Read it again, and repeat the change.")
        self.image_id, self.version = image_id, version


class StatusConflict(RecordError):
    """An image can't become `target`, as it is `status`."""

    def __init__(self, image_id: str, status: str, target: str):
        super().__init__(f"Image {image_id} can't become {target}: it is {status}.")
        self.image_id, self.status, self.target = image_id, status, target


class MarkerNotFound(RecordError):
    """The page shall begin after `marker`, and the caller sees no image with that id."""

    def __init__(self, marker: str):
        super().__init__(f"The page can't begin after image {printable(marker)}: there is none.")
        self.marker = marker


class MemberNotFound(RecordError):
    """The image `image_id` is not lent to the project `member`."""

    def __init__(self, image_id: str, member: str):
        super().__init__(f"Image {printable(image_id)} is not lent to the project {printable(member)}.")
        self.image_id, self.member = image_id, member


class MemberExists(RecordError):
    """The image `image_id` is lent to the project `member` already."""

    def __init__(self, image_id: str, member: str):
        super().__init__(f"Image {image_id} is lent to the project {printable(member)} already.")
        self.image_id, self.member = image_id, member


class TaskNotFound(RecordError):
    """There is no task `task_id`."""

    def __init__(self, task_id: str):
        super().__init__(f"There is no task {printable(task_id)}.")
        self.task_id = task_id


class LeaseLost(RecordError):
    """The process `holder` works on the task `task_id` no more: another one took it over, or it has ended."""

    def __init__(self, task_id: str, holder: str):
        super().__init__(f"The task {task_id} is not in the hands of {printable(holder)} any more.")
        self.task_id, self.holder = task_id, holder


class DefinitionNotFound(RecordError):
    """There is no metadata definition of that `kind` and `name` in `namespace`."""

    def __init__(self, kind: str, namespace: str, name: str):
        super().__init__(f"There is no {kind} {printable(name)} in the namespace {printable(namespace)}.")
        self.kind, self.namespace, self.name = kind, namespace, name


class DefinitionExists(RecordError):
    """There is a metadata definition of that `kind` and `name` in `namespace` already."""

    def __init__(self, kind: str, namespace: str, name: str):
        super().__init__(f"There is a {kind} {printable(name)} in the namespace {printable(namespace)} already.")
        self.kind, self.namespace, self.name = kind, namespace, name


class QuotaExceeded(RecordError):
    """A project may not have so much of `resource`: it has `used`, asks for `asked` more, and `limit` is what it may have."""

    def __init__(self, project: str, resource: str, *, limit: int, used: int, asked: int):
        super().__init__(
            f"The project {printable(project)} may have {limit} {resource}: it has {used}, and {asked} more were asked for. "
            f"Delete images or end uploads of the project, or have its quota raised."
        )
        self.project, self.resource, self.limit, self.used, self.asked = project, resource, limit, used, asked


class Unstorable(RecordError, DontWrapMixin):
    """A text of the caller's can't be stored: `field` says which, `problem` says why."""

    exit_code = 2

    def __init__(self, field: str, problem: str):
        super().__init__(f"The {field} can't be stored: {problem}.")
        self.field, self.problem = field, problem


class DatabaseUnavailable(RecordError):
    """The database did not do what it was asked; `reason` holds its words.

    Nothing of the transaction was stored, unless the connection broke while it was: then nobody can tell.
    """

    def __init__(self, reason: str):
        super().__init__(f"The database refused: {reason}.")
        self.reason = reason


class DatabaseBusy(DatabaseUnavailable):
    """Somebody else held the database's lock for as long as we wait for it."""


class DatabaseFull(DatabaseUnavailable):
    """There is no space left for the database."""


class DatabaseDamaged(DatabaseUnavailable, DontWrapMixin):
    """The database holds what nobody can have stored there. Restore it from a backup, or make the records again."""

    def __init__(self, reason: str):
        super().__init__(f"{reason}. Restore it, or make it again with 'cowherd serve --rebuild'")


class DatabaseTooNew(RecordError):
    """A newer cowherd wrote the database: its schema has the version `version`, which this one doesn't know."""

    def __init__(self, version: str):
        super().__init__(
            f"The database has a schema of version {printable(version)}: a newer cowherd wrote it. Install that one."
        )
        self.version = version


class UnknownDatabase(InvalidRequest):
    """The address of a database names no kind that the records can use."""

    def __init__(self, kind: str):
        super().__init__(f"A database of kind '{printable(kind)}' can't hold the records; sqlite and postgresql can.")
        self.kind = kind


class DriverMissing(InvalidRequest):
    """PostgreSQL was asked for, and what speaks to it is not installed."""

    def __init__(self) -> None:
        super().__init__(f"Records in PostgreSQL need psycopg: {how_to_install('postgresql')}")


class EncodingDiffers(InvalidRequest):
    """A database of PostgreSQL's keeps texts in `encoding`, and not in UTF-8: then it can't hold every name."""

    def __init__(self, encoding: str):
        super().__init__(
            f"The database has the encoding {printable(encoding)}, and the records need UTF8: create it with "
            "'createdb --encoding UTF8 --template template0 NAME'."
        )
        self.encoding = encoding
