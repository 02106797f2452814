"""What the records refuse, and why.

CowherdError
    RecordError
        ImageNotFound, ImageExists, ImageChanged, StatusConflict, MarkerNotFound
        MemberNotFound, MemberExists
        Unstorable
        DatabaseUnavailable
            DatabaseBusy, DatabaseFull
        DatabaseTooNew
    InvalidRequest
        UnknownDatabase
"""

from __future__ import annotations

from sqlalchemy.exc import DontWrapMixin

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


class Unstorable(RecordError, DontWrapMixin):
    """A text of the caller's can't be stored: `field` says which, `problem` says why."""

    exit_code = 2

    def __init__(self, field: str, problem: str):
        super().__init__(f"The {field} can't be stored: {problem}.")
        self.field, self.problem = field, problem


class DatabaseUnavailable(RecordError):
    """The database did not do what it was asked; `reason` holds its words. Nothing of the transaction was stored."""

    def __init__(self, reason: str):
        super().__init__(f"The database refused: {reason}.")
        self.reason = reason


class DatabaseBusy(DatabaseUnavailable):
    """Somebody else held the database's lock for as long as we wait for it."""


class DatabaseFull(DatabaseUnavailable):
    """There is no space left for the database."""


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
