"""Judges the bytes of an image while they arrive, and again when they are stored.

The policy is that of OpenStack Glance, but images with extended L2 tables are let through, and images that break their format are
not: truncated ones, tables past the end, wrong refcounts, sizes beyond the limit. The bytes must be of the format that the record
states, unless that is switched off. Only formats that cowherd reads are looked at closely; of the others, what their heads say.
"""

from __future__ import annotations

from dataclasses import dataclass

from cowherd.errors import ImageFormatError
from cowherd.formats import registry
from cowherd.formats.probe import PROBED_BYTES, probe_bytes
from cowherd.herd.records.binding import EXTENSION_TYPE, parse_binding
from cowherd.ops.inspect.content import ends_as_fixed_vhd
from cowherd.ops.inspect.inspector import Inspector
from cowherd.ops.inspect.report import Inspection, Outcome
from cowherd.ops.inspect.signatures import SIGNATURE_BYTES, is_disc
from cowherd.service.intake.faults import Refused
from cowherd.service.intake.lineage import Bases, Below
from cowherd.storage.hostfile import Buffer

POLICY = "glance"
ALLOWED = ("extended-l2",)
"""Features that are let through although Glance refuses them."""
ALLOWED_IN_RAW = (*ALLOWED, "empty", "foreign-content")
"""A raw disk may hold anything; Glance stores a text that is stated to be one."""
ALLOWED_IN_OVERLAYS = (*ALLOWED, "backing-file")
MOST_VIRTUAL_BYTES = 64 << 40
"""Bytes of the largest disk that is accepted unless somebody says otherwise."""

_NAMES = {"vpc": "vhd", "parallels": "ploop"}
_FLAT = ("raw", "iso", "luks")
_UNSEEN = ("ami", "ari", "aki", "ploop")
_TAIL_BYTES = 512


@dataclass(frozen=True)
class Rules:
    """What is asked of images: whether the bytes must be of the stated format, and the largest disk, in bytes."""

    match_format: bool = True
    max_virtual_size: int = MOST_VIRTUAL_BYTES


class InFlight:
    """Judges bytes as they arrive, in order; each method raises `Refused` as soon as the bytes must not be kept."""

    def __init__(self, disk_format: str, rules: Rules, length: int | None = None, bases: Bases | None = None):
        """`disk_format` is what the record states, `length` the number of bytes that will come (None: not known).

        Overlays are let through that stand on what `bases` finds: none without it.
        """
        self.stated, self._rules, self._length = disk_format, rules, length
        self.format: str | None = None
        """The format that was recognised; None until enough bytes have come."""
        self._head, self._tail = bytearray(), b""
        self._received = 0
        self._inspector: Inspector | None = None
        self._bases = bases
        self.content_below: str | None = None
        """The content digest, in hexadecimal digits, of what an overlay is bound to; None for what is no overlay."""
        self.below: tuple[Below, ...] = ()
        """The files that an overlay stands on, the nearest first."""

    def feed(self, block: Buffer) -> None:
        """Takes the next bytes."""
        rest = memoryview(block)
        self._received += len(rest)
        self._tail = (self._tail + bytes(rest[-_TAIL_BYTES:]))[-_TAIL_BYTES:]
        if self.format is None:
            missing = SIGNATURE_BYTES - len(self._head)
            self._head += rest[:missing]
            rest = rest[missing:]
            if len(self._head) < SIGNATURE_BYTES:
                return
            self._begin()
        self._inspect(rest)

    def finish(self) -> int | None:
        """Called after the last byte; returns the virtual size, None if only the stored file can tell it."""
        if self.format is None:
            self._begin()
        if self._awaits_end and not ends_as_fixed_vhd(self._tail):
            self._refuse_other_format()
        was_decided = self._inspector is None or self._inspector.decided
        found = self._inspector.finish() if self._inspector else None
        if found is not None:
            _require_safe(found)
        if self._inspector is not None and not was_decided:
            self._find_base(self._inspector)
        if self.stated == registry.RAW.name:
            return self._received
        return found.virtual_size if found and found.format == self.stated else None

    @property
    def _awaits_end(self) -> bool:
        """Whether only the end tells: a fixed VHD is a raw disk with a footer."""
        return self._rules.match_format and self.stated == "vhd" and self.format == registry.RAW.name

    def _begin(self) -> None:
        head = bytes(self._head)
        self.format = recognise(head)
        if self._rules.match_format and not self._awaits_end and not _fits(self.stated, self.format):
            self._refuse_other_format()
        self._inspector = self._inspector_for(self.format)
        self._inspect(head)

    def _inspect(self, data: Buffer) -> None:
        if self._inspector is None:
            return
        was_decided = self._inspector.decided
        if not self._inspector.feed(data):
            _require_safe(self._inspector.inspection())
        if self._inspector.decided and not was_decided:
            self._find_base(self._inspector)

    def _find_base(self, inspector: Inspector) -> None:
        """Called once the head of a qcow2 image is there: finds what it stands on, if it does. Raises `Refused`."""
        backing = next((check for check in inspector.checks if check.name == "backing-file"), None)
        if self._bases is None or backing is None or backing.outcome is Outcome.OK:
            return
        try:
            binding = parse_binding([data for kind, data in inspector.extensions if kind == EXTENSION_TYPE], "the image")
        except ImageFormatError as error:
            raise Refused("backing-file", error.problem) from error
        if binding is None:
            raise Refused("backing-file", f"{backing.detail}, and no binding says what that holds: see 'cowherd bind'")
        self.content_below = binding.content_digest.hex()
        self.below = self._bases.chain(self.content_below)

    def _inspector_for(self, found: str) -> Inspector | None:
        """Returns an inspector for formats that cowherd reads; whatever is stated, a QCOW2 image must be a harmless one."""
        if found == registry.QCOW2.name:
            may_stand_on = self._bases is not None and self.stated == found
            return self._new_inspector(found, ALLOWED_IN_OVERLAYS if may_stand_on else ALLOWED)
        return self._new_inspector(found, ALLOWED_IN_RAW) if found == registry.RAW.name and self.stated == found else None

    def _new_inspector(self, format: str, allow: tuple[str, ...]) -> Inspector:
        most = self._rules.max_virtual_size
        return Inspector(format=format, policy=POLICY, allow=allow, max_size=most, length=self._length)

    def _refuse_other_format(self) -> None:
        raise Refused("format", f"its record says {self.stated!a}, and its content is {self.format}")


def recognise(head: bytes) -> str:
    """Returns the disk format that a file's first `SIGNATURE_BYTES` bytes indicate, "raw" if they indicate none."""
    found = probe_bytes(head[:PROBED_BYTES])
    if found == registry.UNRECOGNISED and is_disc(head):
        return "iso"
    return _NAMES.get(found, found)


def _fits(stated: str, found: str) -> bool:
    """Returns whether bytes recognised as `found` may be called `stated`. A raw disk may hold a disc or an encrypted volume."""
    if stated == registry.RAW.name:
        return found in _FLAT
    return found == stated or (stated in _UNSEEN and found == registry.UNRECOGNISED)


def _require_safe(found: Inspection) -> None:
    if not found.safe:
        raise Refused(found.refused[0].name, found.refused[0].detail)
