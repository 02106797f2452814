"""The inspection itself: of data as it streams in, and of a file, which is a stream that can be read more than once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from cowherd.errors import InvalidRequest
from cowherd.formats import registry
from cowherd.formats.probe import TAIL_BYTES
from cowherd.ops.inspect.extensions import NameArea, check_names, extension_regions
from cowherd.ops.inspect.fields import EMPTY, check_fields, check_shape
from cowherd.ops.inspect.head import ENOUGH_BYTES, Head, Region
from cowherd.ops.inspect.placement import check_apart, check_inside
from cowherd.ops.inspect.policy import Policy, find_policy
from cowherd.ops.inspect.report import Check, Inspection, judge, refuse, unknown
from cowherd.ops.inspect.signatures import (
    SIGNATURE_BYTES,
    check_format,
    check_raw_end,
    check_raw_start,
    check_single_format,
)
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, READ_SHARED

if TYPE_CHECKING:
    from cowherd.paths import PathName
    from cowherd.sizes import Size

_CHUNK_BYTES = 64 << 10
_NOT_RE_READ = "what the tables hold can't be checked in a stream: inspect the stored file too before it is used"


class Readable(Protocol):
    """A stream for `inspect`: an open file, a socket's file, a response of an HTTP client."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes, none at the end."""
        ...


class Inspector:
    """Inspects an image while it streams in: `feed` it the bytes that arrive, stop when it is `refused`, else `finish`.

    It keeps the first cluster of the image (at most 2 MiB) and its last KiB, and never seeks. It judges the first cluster as soon
    as that is complete, and whether the tables lie inside the file once the length is known; `length` can give it beforehand.
    Raises `InvalidRequest` for an unknown policy or feature.
    """

    def __init__(
        self,
        *,
        format: str | None = None,
        policy: str = "untrusted",
        allow: str | Iterable[str] = (),
        max_size: Size | None = None,
        length: int | None = None,
    ):
        """`format` is the declared format (None: guessed), `allow` names features to allow that the policy would refuse,
        `max_size` is the largest disk, `length` the bytes that will come (None: not known)."""
        self.policy: Policy = find_policy(policy, allow, max_size)
        self.length = length
        self.checks: list[Check] = []
        self.received = 0
        self.regions: list[Region] = []
        self.extensions: list[tuple[int, bytes]] = []
        """The header extensions of a qcow2 image: their types and data, once they were read."""
        self.format = format or "unknown"
        self._declared = format
        self._virtual_size: int | None = None
        self._head = bytearray()
        self._tail = b""
        self._wanted = ENOUGH_BYTES
        self._steps = self._check_start()
        self._over = False

    @property
    def refused(self) -> bool:
        """Whether a check has refused the image already, so that the rest need not be read."""
        return self._any_refused()

    @property
    def decided(self) -> bool:
        """Whether all checks of the file's start are done."""
        return self._over

    def feed(self, data: bytes | bytearray | memoryview) -> bool:
        """Takes the next bytes; returns whether the image is still acceptable."""
        self.received += len(data)
        rest = memoryview(data)
        self._tail = (self._tail + rest[-TAIL_BYTES:])[-TAIL_BYTES:]
        while not self._over:
            missing = self._wanted - len(self._head)
            self._head += rest[:missing]
            rest = rest[missing:]
            if len(self._head) < self._wanted:
                break
            self._advance()
        return not self.refused

    def finish(self) -> Inspection:
        """Called after the last byte: makes the remaining checks and returns all of them."""
        self.settle(self.received)
        if self.format == registry.QCOW2.name and not self.refused:
            self.checks.append(unknown("tables", _NOT_RE_READ))
        return self.inspection()

    def settle(self, size: int, tail: bytes | None = None) -> None:
        """Makes the remaining checks, now that the image is known to be `size` bytes long.

        `tail` is its last KiB, None if all bytes were fed.
        """
        while not self._over:
            self._advance()
        if self.refused:
            return
        expected, self.length = self.length, size
        if expected is not None and expected != size:
            self.checks.append(refuse("length", f"{size} bytes came of {expected}"))
        elif self.format == registry.RAW.name:
            self._settle_raw(size, self._tail if tail is None else tail)
        elif expected is None:
            self.checks.append(check_inside(self.regions, size))

    def _settle_raw(self, size: int, tail: bytes) -> None:
        self._virtual_size = size
        problem = f"a disk of {size} bytes; at most {self.policy.max_size} are let through"
        self.checks.append(judge("virtual-size", problem if size > self.policy.max_size else None, f"{size} bytes"))
        if not size:
            self.checks.append(self.policy.judge("empty", EMPTY))
        elif all(check.name != "foreign-content" for check in self.checks):
            self._add(check_raw_start(bytes(self._head), self.policy, size))
        self._add(check_raw_end(tail, size))

    def _add(self, found: Check | None) -> None:
        if found is not None:
            self.checks.append(found)

    def inspection(self, more: Iterable[Check] = (), expands_to: int | None = None) -> Inspection:
        """Returns the checks so far, followed by `more`. `expands_to` is in bytes; see `Inspection`."""
        checks = (*self.checks, *more)
        return Inspection(self.format, self.policy.name, checks, self._virtual_size, self.length, expands_to)

    def _any_refused(self) -> bool:
        return any(check.refused for check in self.checks)

    def _advance(self) -> None:
        try:
            self._wanted = next(self._steps)
        except StopIteration:
            self._over = True

    def _check_start(self) -> Iterator[int]:
        """Makes the checks of the file's start. Before those that need more of it, yields how many bytes they need."""
        self.format, found = check_format(bytes(self._head), self._declared)
        self.checks.append(found)
        if found.refused:
            return
        if self.format == registry.RAW.name:
            self._add(check_raw_start(bytes(self._head), self.policy, self.length))
            return
        head = Head(bytes(self._head))
        self.checks += check_shape(head)
        if self._any_refused():
            return
        self._virtual_size = head["size"]
        self.checks += check_fields(head, self.policy)
        if self._any_refused():
            return
        yield max(head.cluster_size, SIGNATURE_BYTES)
        self.checks.append(check_single_format(bytes(self._head), self.format))
        names = NameArea(head, bytes(self._head))
        self.extensions = names.extensions
        self.checks += check_names(names, self.policy)
        if self._any_refused():
            return
        self.regions = head.regions() + extension_regions(names)
        self.checks.append(check_apart(self.regions))
        if self.length is not None:
            self.checks.append(check_inside(self.regions, self.length))


def inspect(
    source: PathName | Readable,
    *,
    format: str | None = None,
    policy: str = "untrusted",
    allow: str | Iterable[str] = (),
    max_size: Size | None = None,
    length: int | None = None,
    force_share: bool = False,
) -> Inspection:
    """Inspects an untrusted image: a file by its name, or a stream, which is anything with `read()`.

    It opens no file that the image names. Policies: "untrusted" refuses everything that leads out of the file or hides something
    in it, "glance" what OpenStack Glance refuses, "trusted" nothing; all refuse an image that breaks the format. See `Inspector`
    for the arguments. A stream is read until a check refuses it; its report lacks the checks that need a stored file.
    `force_share` inspects a file that a machine may be writing. Raises `HostFileError`, `ImageInUse` and `InvalidRequest`.
    """
    inspector = Inspector(format=format, policy=policy, allow=allow, max_size=max_size, length=length)
    if isinstance(source, str | os.PathLike):
        with HostFile.open(source, lock=READ_SHARED if force_share else READ) as file:
            return _inspect_file(file, inspector)
    if not hasattr(source, "read"):
        raise InvalidRequest(f"{type(source).__name__} is neither a file's name nor has it read()")
    while data := source.read(_CHUNK_BYTES):
        if not inspector.feed(data):
            return inspector.inspection()
    return inspector.finish()


def _inspect_file(file: HostFile, inspector: Inspector) -> Inspection:
    size = inspector.length = file.size()
    while not inspector.decided and inspector.received < size:
        inspector.feed(file.pread(inspector.received, min(_CHUNK_BYTES, size - inspector.received)))
    inspector.settle(size, file.pread(max(0, size - TAIL_BYTES), min(size, TAIL_BYTES)))
    if inspector.refused or inspector.format != registry.QCOW2.name:
        return inspector.inspection()
    return _inspect_tables(file, inspector)


def _inspect_tables(file: HostFile, inspector: Inspector) -> Inspection:
    from cowherd.ops.inspect.tables import TablesCheck

    tables = TablesCheck(file, inspector.regions)
    more = list(tables.run())
    return inspector.inspection(more, tables.expands_to)
