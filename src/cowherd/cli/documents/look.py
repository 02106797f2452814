"""The documents of the commands that look."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from cowherd.cli.documents.shared import (
    Bytes,
    Command,
    Digest,
    Finding,
    Hit,
    Machine,
    Path,
    Process,
    Ranges,
    SealLevel,
    Seconds,
    Time,
    Verified,
)
from cowherd.herd.records.status import Status
from cowherd.herd.trash.gc import Sort
from cowherd.live.running_faults import Fault
from cowherd.ops.inspect.report import Outcome


class Base(TypedDict):
    """An image that overlays stand on, or that is sealed."""

    path: Path  #: the base
    there: bool  #: whether it is there
    status: Status  #: its own; where it is fine, that of the worst overlay right on it
    detail: str  #: a sentence about that; may be empty
    seal: SealLevel | None  #: null: none
    overlays: int  #: how many depend on it
    running_overlays: int  #: how many of them a machine is seen to run on
    problem: str | None  #: why its header can't be trusted
    wrong_overlays: int  #: how many right on it are not fine
    verified: Time | None  #: when its content was last read as a whole and found right, if the log knows


class Standing(TypedDict):
    """How each base stands, worst first."""

    directories: list[Path]  #: where was looked
    bases: list[Base]  #: worst first
    wrong: int  #: how many are not fine
    unreadable: list[Path]  #: what could not be looked at
    hidden_machines: int  #: how many processes of others may have images open


class Image(TypedDict):
    """An image of a herd."""

    path: Path  #: its file
    names: list[Path]  #: all its names
    base: Path | None  #: what it stands on
    depth: int  #: how many images lie below it
    format: str  #: its format
    virtual_size: Bytes | None  #: the size of its disk; null: not known
    disk_size: Bytes  #: what its file takes
    seal: SealLevel | None  #: null: none
    status: Status  #: whether it is what others expect
    detail: str  #: a sentence; may be empty
    bound: bool  #: whether it has a binding
    dependents: int  #: how many overlays depend on it
    running: list[Machine]  #: the machines that run on it
    running_overlays: int  #: how many of its dependents a machine is seen to run on
    problem: str | None  #: why its header can't be trusted


class GoneDisk(TypedDict):
    """A file that a machine runs on though its name is gone."""

    path: Path  #: its former name
    replaced: bool  #: whether another file has that name
    pid: int  #: the machine's process
    open_as: Path  #: where it can still be read


class Tree(TypedDict):
    """A herd: bases before their overlays."""

    directories: list[Path]  #: where was looked
    images: list[Image]  #: depth first
    gone: list[Path]  #: images of which only the seal is left
    unreadable: list[Path]  #: what could not be looked at
    running_on_gone: list[GoneDisk]  #: machines that run on deleted or replaced files
    hidden_machines: int  #: how many processes of others may have images open


class Relative(TypedDict):
    """An image of a chain, or an overlay."""

    path: Path  #: its file
    base: Path | None  #: what it stands on
    seal: SealLevel | None  #: null: none
    status: Status  #: whether it is what others expect
    running: list[Machine]  #: the machines that run on it


class Binding(TypedDict):
    """What an overlay records of its base."""

    content_digest: Digest  #: that of the content that it was made on
    seal_id: Digest  #: the seal of the base
    generation: int  #: the seal's generation


class Seal(TypedDict):
    """A seal. A damaged one has `path` and `level` only."""

    path: Path  #: the seal's file
    level: SealLevel | None  #: how well the image is protected
    content_digest: NotRequired[Digest]  #: that of the sealed content
    seal_id: NotRequired[Digest]  #: names the seal
    generation: NotRequired[int]  #: 1, and one more for each seal of new content
    created: NotRequired[Time]  #: when it was made
    made_by: NotRequired[str]  #: the program that made it
    signed_by: NotRequired[Digest | None]  #: the public key of its signature
    shadow: NotRequired[str | None]  #: the name of a reflink copy


class Naming(TypedDict):
    """A libvirt domain that names an image."""

    name: str  #: the domain
    role: str  #: as what it names it, as in "vda"
    active: bool  #: whether it runs


class Holder(TypedDict):
    """A process that has an image open."""

    pid: int  #: its process id
    command: str  #: its program
    user: str | None  #: its user's name
    writing: bool  #: whether it can write


class Shown(TypedDict):
    """All that is known of an image."""

    path: Path  #: its file
    names: list[Path]  #: all its names
    format: str  #: its format
    virtual_size: Bytes | None  #: the size of its disk; null: not known
    disk_size: Bytes  #: what its file takes
    shared_size: Bytes | None  #: how much of that other files share; null: not known
    data_file: Path | None  #: its external data file
    status: Status  #: whether it is what others expect
    detail: str  #: a sentence; may be empty
    problem: str | None  #: why its header can't be trusted
    base: Path | None  #: what it stands on
    chain: list[Relative]  #: the images below it, nearest first
    overlays: list[Relative]  #: all that depends on it
    binding: Binding | None  #: its own record of its base
    seal: Seal | None  #: its seal
    verified: Time | None  #: when its content was last read as a whole and found right
    domains: list[Naming]  #: the libvirt domains that name it
    running: list[Machine]  #: the machines that run on it
    open_in: list[Holder]  #: other processes that have it open
    hidden_machines: int  #: how many processes of others may have it open
    healthy: bool  #: whether all findings are notes
    findings: list[Finding]  #: the doctor's about it, and those about its chain that are no notes


class Diagnosis(TypedDict):
    """Everything that is wrong in a herd."""

    directories: list[Path]  #: where was looked
    images: int  #: how many were examined
    healthy: bool  #: whether all findings are notes
    full: bool  #: whether content and all tables were read
    catalog: Path | None  #: the catalog that knew headers which did not change
    not_asked: list[str]  #: why machines were not asked
    findings: list[Finding]  #: worst first


class Check(TypedDict):
    """The result for images and all that they stand on."""

    images: list[Verified]  #: bases before their overlays
    fine: bool  #: whether all are


class Impact(TypedDict):
    """What the change of a base does to its overlays."""

    base: Path  #: the base
    changed: Ranges  #: where it differs
    changed_bytes: Bytes  #: how much differs
    overlays: list[Hit]  #: all that depend on it; empty if nothing has changed
    running_overlays: int  #: how many that are hit a machine is seen to run on
    hidden_machines: int  #: how many processes of others may run on them


class OpenImage(TypedDict):
    """A file that a process has open."""

    path: str  #: its name, as the kernel has it
    inode: int  #: its inode number
    writing: bool  #: whether it can write
    locking: bool  #: whether it holds QEMU's locks
    mapped: bool  #: whether it is mapped into memory
    gone: bool  #: whether it was deleted
    seal: SealLevel | None  #: null: none, or not known
    status: Status | None  #: whether it is what others expect
    detail: str | None  #: a sentence about that


class DriveName(TypedDict):
    """A drive of the guest."""

    name: str  #: its name
    problem: str | None  #: QEMU's word for requests that have failed


class Layer(TypedDict):
    """An image of a chain."""

    name: str  #: its name
    inode: int | None  #: its inode number


class Disk(TypedDict):
    """A disk of a machine."""

    drives: list[DriveName]  #: the guest's drives with it
    opened: list[Layer]  #: its chain as the machine has it, top first
    on_disk: list[Layer]  #: its chain as the headers say
    differs: bool  #: whether these are not the same
    problem: str | None  #: why the headers can't be followed


class Export(TypedDict):
    """A disk that a machine gives to others."""

    id: str  #: its id
    type: str  #: how, as in "nbd"
    node: str  #: QEMU's block node
    ending: bool  #: whether it is about to end


class Job(TypedDict):
    """A block job, in QEMU's words."""

    id: str  #: its id
    type: str  #: its kind
    status: str  #: its state
    done: int  #: how far it is
    total: int  #: how far it has to go, in the job's own measure
    error: str  #: may be empty


class Running(Process):
    """A process that has images open."""

    machine: str | None  #: the machine's name
    since: Seconds | None  #: when it began
    is_machine: bool  #: whether it runs a machine or serves its disks
    monitors: list[Path]  #: its QMP monitors
    asked: bool  #: whether one was asked
    monitor_error: str | None  #: why none has answered
    images: list[OpenImage]  #: the files that it has open
    disks: list[Disk]  #: the disks that it told of
    exports: list[Export]  #: those that it gives to others
    jobs: list[Job]  #: its block jobs


class KernelUser(TypedDict):
    """A use of a file by the kernel itself."""

    name: str | None  #: the block device
    uses: list[str]  #: what uses that
    image: Path | None  #: the file
    inode: int | None  #: its inode number
    writing: bool  #: whether it can write
    gone: bool  #: whether the file was deleted
    pid: int | None  #: the process that serves it


class LostMonitor(TypedDict):
    """A monitor that was named and does not answer."""

    socket: Path  #: its socket
    error: str  #: why


class RunningFault(TypedDict):
    """Something that is wrong with what runs."""

    kind: Fault  #: what is wrong
    pid: int | None  #: the process
    image: Path | None  #: the file
    detail: str  #: a sentence


class Processes(TypedDict):
    """What runs on which images."""

    processes: list[Running]  #: those that have images open
    kernel: list[KernelUser]  #: the kernel's own uses
    hidden: int  #: how many processes this user may not look into
    lost_monitors: list[LostMonitor]  #: monitors that do not answer
    findings: list[RunningFault]  #: worst first


class Page(TypedDict):
    """The answer to `report -o`."""

    page: Path  #: the file
    images: int  #: how many it shows
    findings: int  #: how many the doctor has
    healthy: bool  #: whether these are all notes
    drifts: int  #: how many bases have changed, or can't be read


class ServedPage(TypedDict):
    """What `report --serve` tells when it is ended."""

    page: str  #: where the page was
    directories: list[Path]  #: what it showed


class NamedCheck(TypedDict):
    """A check of an image from a stranger."""

    name: str  #: what was checked
    outcome: Outcome  #: how it ended
    detail: str  #: may be empty


class Inspection(TypedDict):
    """Whether an image from a stranger may be used."""

    image: str  #: as it was named; "-": standard input
    format: str  #: the format that was inspected
    policy: Literal["untrusted", "glance", "trusted"]  #: what is let through
    safe: bool  #: whether no check refused it
    complete: bool  #: whether everything could be checked
    virtual_size: Bytes | None  #: the size of its disk
    file_size: Bytes | None  #: the size of its file
    expands_to: Bytes | None  #: what its compressed clusters take without compression
    checks: list[NamedCheck]  #: in the order in which they were made


class Subject(TypedDict):
    """An image of a command that is in the log."""

    path: Path  #: its path then
    device: int  #: the number of the file's device
    inode: int  #: the file's inode number
    is_new: bool  #: whether the command made that file


class Entry(TypedDict):
    """A command that is in the log."""

    time: Time  #: when it ended
    user: str  #: who ran it
    sudo_user: str  #: who called sudo; may be empty
    program: str  #: `cowherd` or `cowherd-img`
    command: str  #: which command
    images: list[Subject]  #: those that it changed, or read as a whole
    exit_code: int  #: -1: a signal ended it
    problem: str  #: why the exit code is not 0


class History(TypedDict):
    """What was done to images."""

    entries: list[Entry]  #: newest first


class Garbage(TypedDict):
    """Something that a herd could do without."""

    kind: Sort  #: why
    path: Path  #: the file
    detail: str  #: a sentence
    frees: Bytes  #: what its removal would free
    remedy: Command  #: what removes it
    removed: bool  #: whether `--clean` has


class Garbages(TypedDict):
    """What a herd could do without."""

    garbage: list[Garbage]  #: each thing
    frees: Bytes  #: what the removal of all would free
