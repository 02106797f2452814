"""What the documents of several commands hold."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from cowherd.herd.doctor.finding import Kind
from cowherd.herd.records.status import Status

Path = Annotated[str, "path"]
"""The name of a file, mostly absolute. Bytes of names that are no UTF-8 are the escapes of Python's `surrogateescape`."""

Bytes = Annotated[int, "bytes"]
Digest = Annotated[str, "hexadecimal digits"]
Time = Annotated[str, "time in ISO 8601"]
Seconds = Annotated[float, "seconds since 1970"]
Ranges = Annotated[list[tuple[int, int]], "ranges, each [start, length] in bytes of the disk"]
Command = Annotated[list[str], "words of a command line"]
Verdict = Literal["intact", "harmless", "synchronised", "altered", "unreadable", "torn"]
Level = Literal["recorded", "readonly", "immutable"]
SealLevel = Annotated[str, "`recorded`, `readonly`, `immutable`; or what is wrong with the seal"]


class Problem(TypedDict):
    """A file, and what is wrong with it."""

    path: Path  #: the file
    problem: str  #: a sentence


class Machine(TypedDict):
    """A process that runs a machine on an image."""

    pid: int  #: its process id
    command: str  #: its program
    user: str | None  #: its user's name
    unit: str | None  #: its systemd unit
    machine: str | None  #: the machine's name
    domain: str | None  #: the machine's name, if libvirt started it
    since: Seconds  #: when it began; 0: not known
    writing: bool  #: whether it can write to the image


class Process(TypedDict):
    """A process, as far as it is known."""

    pid: int  #: its process id; 0: that of another namespace
    command: str | None  #: its program
    command_line: str  #: the beginning of its arguments
    user: str | None  #: its user's name
    unit: str | None  #: its systemd unit
    domain: str | None  #: the libvirt domain that it runs
    gone: bool  #: whether it had ended before it could be looked at
    hint: bool  #: whether it only has the file open, and nobody saw that it wrote


class Finding(TypedDict):
    """Something that the doctor found."""

    kind: Kind  #: what is wrong
    note: bool  #: whether a herd with this counts as healthy
    path: Path  #: the image
    detail: str  #: a sentence
    remedy: Command  #: what ends the finding; empty: no command can


class PlaceAndPath(TypedDict):
    """A file in a file system of a disk."""

    place: str  #: the partition or volume
    path: str  #: the file in it


class HitStructure(TypedDict):
    """A structure of a file system that a change hits."""

    place: str  #: the partition or volume
    structure: str  #: its name
    bytes: Bytes  #: how much of it


class Unknown(TypedDict):
    """What a look inside could not find out."""

    place: str  #: the partition or volume
    path: str | None  #: the file
    reason: str  #: a sentence


class Contradiction(TypedDict):
    """What in a file system does not fit together."""

    place: str  #: the partition or volume
    problem: str  #: a sentence


class HitFiles(TypedDict):
    """The files of an overlay that a change hits."""

    changed: list[PlaceAndPath]  #: hold other bytes
    lost: list[PlaceAndPath]  #: have vanished
    new: list[PlaceAndPath]  #: have appeared


class SnapshotHit(TypedDict):
    """What a change of a base does to an internal snapshot of an overlay."""

    id: str  #: its id in the image
    name: str  #: its name
    verdict: Verdict  #: how it is hit
    exposed: Ranges  #: what of the change it shows
    shielded: Ranges  #: what it does not
    problem: NotRequired[str]  #: why it can't be read


class Hit(TypedDict):
    """What a change of a base does to an overlay. The keys from `files` on are there with `--files`."""

    path: Path  #: the overlay
    verdict: Verdict  #: how its disk is hit
    exposed: Ranges  #: what of the change it shows
    shielded: Ranges  #: what it does not, since it has its own bytes
    overall: Verdict  #: the worst of `verdict` and those of its snapshots
    snapshots: list[SnapshotHit]  #: its internal snapshots
    running: list[Machine]  #: the machines that run on it
    problem: NotRequired[str]  #: why it can't be read
    files: NotRequired[HitFiles]  #: its files that are hit
    metadata: NotRequired[list[HitStructure]]  #: structures of its file systems that are hit
    unknown: NotRequired[list[Unknown]]  #: what could not be found out
    contradictions: NotRequired[list[Contradiction]]  #: what does not fit together


class Drive(TypedDict):
    """A drive of a machine that is about to start."""

    where: str  #: the option or element that names it
    path: Path | None  #: its file
    writable: bool  #: whether the guest may write to it
    status: str  #: a status of `verify`, or why it was not checked
    image: Path | None  #: the image of its chain that the status is about
    detail: str  #: a sentence; may be empty
    refused: bool  #: whether the machine must not start because of it


class Start(TypedDict):
    """Whether a machine may start."""

    may_start: bool  #: whether no drive is refused
    drives: list[Drive]  #: all that it would open


class Verified(TypedDict):
    """What is known of an image's content."""

    path: Path  #: the image
    status: Status  #: whether it is what others expect
    detail: str  #: a sentence; may be empty
    sealed: bool  #: whether it has a seal
    certain: bool  #: false: the file may have been written to without a trace
    base: Path | None  #: what it stands on
    changed_bytes: Bytes | None  #: how much of it differs, if it was read


class Written(TypedDict):
    """The answer to `--install-units`."""

    written: list[Path]  #: the units


class Error(TypedDict):
    """An error. Beside these keys there are its facts; [the list of errors](python-reference.md#errors) names those of each
    class."""

    kind: str  #: its class
    message: str  #: what standard error says


class Failure(TypedDict):
    """The document of a command that an error has ended."""

    error: Error  #: what has ended it
    exit_code: int  #: that of the process


class Looked(TypedDict, total=False):
    """What every command that changes images says besides, if it has looked for overlays."""

    searched: list[Path]  #: the directories where it looked
    known_dependents: list[Path]  #: what depends on the image
    passed_over: list[Path]  #: directories in which it did not look


class NotGiven(TypedDict):
    """An attribute of a file that could not be kept when the file was replaced."""

    path: Path  #: the file
    what: str  #: the attribute, as in "the owner 107"
    problem: str  #: why


class Losses(TypedDict, total=False):
    """What any command says besides, where it applies."""

    not_given: list[NotGiven]  #: attributes that new files could not get
