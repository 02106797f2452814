"""The lines that `--progress json` writes to standard error while a command works."""

from __future__ import annotations

from typing import Literal, TypedDict


class ProgressLine(TypedDict):
    """How far a piece of work is. There are at most five lines a second, and one at its end, where `done` is `total`."""

    schema: Literal[1]  #: the number of this schema
    type: Literal["progress"]  #: what the line is
    what: str  #: the work, as in "reading /srv/base.qcow2"
    done: int  #: how far it is
    total: int  #: how far it has to go; may still grow
    unit: str  #: what is counted: "B" are bytes, else as in "files"
    seconds: float  #: since its beginning


class NoteLine(TypedDict):
    """What standard error says as text without `--progress json`: a note or an error."""

    schema: Literal[1]  #: the number of this schema
    type: Literal["note"]  #: what the line is
    message: str  #: a sentence
