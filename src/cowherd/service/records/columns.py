"""The types of the tables' columns: the same values in SQLite and in PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Text
from sqlalchemy.types import TypeDecorator

from cowherd.service.records.faults import DatabaseDamaged, Unstorable

LONGEST_KEY = 255
"""Characters of a text that an index holds whole: PostgreSQL refuses an entry of more than 2,704 bytes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Timestamp(TypeDecorator[datetime]):
    """A moment: a datetime with a time zone, stored as microseconds since 1970 UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Returns what is stored."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Returns the moment in UTC. Raises `DatabaseDamaged`."""
        try:
            return None if value is None else _EPOCH + timedelta(microseconds=value)
        except (TypeError, OverflowError) as error:
            raise DatabaseDamaged(f"a moment in it makes no sense: {value!a}") from error


class Words(TypeDecorator[str]):
    """A text of any length, called `field` in messages, and sorted by code points.

    Raises `Unstorable` for what not every database holds: NUL, and halves of surrogate pairs.
    """

    impl = Text().with_variant(Text(collation="C"), "postgresql")
    cache_ok = True

    def __init__(self, field: str):
        super().__init__()
        self.field = field

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Returns what is stored: the text itself."""
        if value is not None:
            check_text(self.field, value)
        return value


class Key(Words):
    """A text of at most `LONGEST_KEY` characters, which indexes hold. Raises `Unstorable` for a longer one, and as `Words`."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Returns what is stored: the text itself."""
        if value is not None and len(value) > LONGEST_KEY:
            raise Unstorable(self.field, f"it has {len(value)} characters, and {LONGEST_KEY} are allowed")
        return super().process_bind_param(value, dialect)


def check_text(field: str, value: str) -> None:
    """Raises `Unstorable` about `field` if `value` holds what no column can hold."""
    if "\0" in value:
        raise Unstorable(field, "it holds a NUL")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unstorable(field, "it holds half of a surrogate pair") from error
