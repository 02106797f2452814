"""Finds the formats that a file's first bytes match, also those with signatures at other offsets than 0.

A file in two formats at once is dangerous: the program that checks it may read it as one, the program that uses it as the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from cowherd.formats import registry
from cowherd.formats.probe import has_dmg_trailer, probe_bytes
from cowherd.ops.inspect.content import ends_as_fixed_vhd, foreign_content
from cowherd.ops.inspect.policy import Policy
from cowherd.ops.inspect.report import Check, note, ok, refuse

_INSPECTED = (registry.QCOW2.name, registry.RAW.name)

SIGNATURE_BYTES = 34 << 10
"""Bytes of a file's start that the signatures need."""

_VDI = (64, b"\x7f\x10\xda\xbe")
_ISO_OFFSET = 0x8001
_ISO = (b"CD001", b"NSR02", b"NSR03")
_BOOT_SECTOR = (510, b"\x55\xaa")


def check_format(head: bytes, declared: str | None) -> tuple[str, Check]:
    """Returns the format to inspect, and the check that it is the declared one (None: guessed)."""
    found = probe_bytes(head)
    shown = found if declared is None else declared
    if found not in _INSPECTED:
        return found, refuse("format", f"{found} images are not inspected, so not let through")
    if shown != found:
        return found, refuse("format", f"the content is {found}, not {shown!a}")
    if found == registry.UNRECOGNISED and declared is None:
        return found, note("format", "nothing says what it is, so it counts as raw: state that wherever it is used")
    return found, ok("format", found)


def check_single_format(head: bytes, format: str) -> Check:
    """Refuses a file that also has another format's signature. Partitions or a file system in a raw disk are no signatures."""
    others = list(_other_formats(head)) if format == registry.QCOW2.name else []
    if others:
        return refuse("single-format", f"it could be taken for {' or '.join(others)} as well")
    return ok("single-format")


def check_raw_start(head: bytes, policy: Policy, size: int | None = None) -> Check | None:
    """Judges the first bytes of a raw disk of `size` bytes (None: not known yet); None if there is nothing to report."""
    foreign = foreign_content(head, size)
    return policy.judge("foreign-content", f"it is {foreign}, and no disk") if foreign else None


def check_raw_end(tail: bytes, size: int) -> Check | None:
    """Judges the last bytes of a raw disk of `size` bytes; None if there is nothing to report."""
    if has_dmg_trailer(tail, size):
        return refuse("single-format", "it could be taken for dmg as well: it ends with a dmg image's trailer")
    if ends_as_fixed_vhd(tail):
        return note(
            "footer", "it ends with the footer of a fixed VHD, which counts as the disk's last sector if it is used as raw"
        )
    return None


def is_disc(head: bytes) -> bool:
    """Returns whether a file begins as an ISO 9660 or UDF disc does; `head` is its first `SIGNATURE_BYTES` bytes."""
    return head.startswith(_ISO, _ISO_OFFSET)


def _other_formats(head: bytes) -> Iterator[str]:
    if head.startswith(_VDI[1], _VDI[0]):
        yield "vdi"
    if is_disc(head):
        yield "an ISO 9660 or UDF disc"
    if head.startswith(_BOOT_SECTOR[1], _BOOT_SECTOR[0]):
        yield "a boot sector"
