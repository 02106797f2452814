"""Checks of the header's fixed fields: each number against the specification and QEMU's limits, before anything uses it.

Specification: QEMU docs/interop/qcow2, section Header; limits: block/qcow2.h.
"""

from __future__ import annotations

from collections.abc import Iterator

from cowherd.formats.qcow2 import layout
from cowherd.ops.inspect.head import Head
from cowherd.ops.inspect.policy import Policy
from cowherd.ops.inspect.report import Check, judge, note, ok, refuse
from cowherd.sizes import SECTOR
from cowherd.text import counted

EMPTY = "a disk of no bytes"

_SNAPSHOT_BYTES = 40
_MAX_SNAPSHOT_TABLE_BYTES = 64 << 20


def check_shape(head: Head) -> Iterator[Check]:
    """Yields the checks of the fields on which all others depend; if one is refused, no other check makes sense."""
    yield judge("header-present", "the file ends inside its header" if head.short else None)
    version = head["version"]
    yield judge("version", None if version in (2, 3) else f"version {version} is neither 2 nor 3", str(version))
    bits = head["cluster_bits"]
    sound = layout.MIN_CLUSTER_BITS <= bits <= layout.MAX_CLUSTER_BITS
    yield judge("cluster-size", None if sound else f"clusters of 2^{bits} bytes; allowed are 2^9 to 2^21")


def check_fields(head: Head, policy: Policy) -> Iterator[Check]:
    """Yields the checks of all other fixed fields; `check_shape` must have accepted the header."""
    yield _check_header_length(head)
    yield from _check_features(head, policy)
    yield _check_compression(head)
    yield _check_encryption(head, policy)
    yield _check_virtual_size(head, policy)
    if head["size"] < SECTOR:  # QEMU counts whole sectors only
        yield policy.judge("empty", EMPTY)
    yield _check_l1(head)
    yield _check_refcounts(head)
    yield _check_snapshots(head, policy)


def _check_header_length(head: Head) -> Check:
    length, problem = head["header_length"], None
    if head["version"] >= 3 and (length < layout.V3_HEADER_LENGTH or length % 8 or length > head.cluster_size):
        problem = f"a header of {length} bytes: not a multiple of 8 from {layout.V3_HEADER_LENGTH} to a cluster"
    return judge("header-length", problem, f"{length} bytes")


def _check_features(head: Head, policy: Policy) -> Iterator[Check]:
    bits = head["incompatible"]
    strange = [str(bit) for bit in range(64) if (bits & ~layout.INCOMPATIBLE_KNOWN) >> bit & 1]
    bits_named = "unknown incompatible feature bits" if len(strange) > 1 else "unknown incompatible feature bit"
    yield judge("features", f"{bits_named} {', '.join(strange)}" if strange else None)
    if bits & layout.INCOMPATIBLE_DATA_FILE:
        yield policy.judge("data-file", "the guest's data lies in another file, which the image names")
    else:
        yield ok("data-file", "none")
    if bits & layout.INCOMPATIBLE_EXTENDED_L2:
        yield from _check_extended_l2(head, policy)
    if bits & layout.INCOMPATIBLE_CORRUPT:
        yield policy.judge("corrupt", "it is marked corrupt")
    if bits & layout.INCOMPATIBLE_DIRTY:
        yield note("dirty", "it was not closed: its refcounts may be out of date")


def _check_extended_l2(head: Head, policy: Policy) -> Iterator[Check]:
    if head["cluster_bits"] < layout.MIN_EXTENDED_L2_CLUSTER_BITS:
        yield refuse("extended-l2", "clusters are too small for subclusters (at least 16 KiB)")
    else:
        why = "OpenStack refuses extended L2 entries" if "extended-l2" in policy.refused else "clusters have subclusters"
        yield policy.judge("extended-l2", why)


def _check_compression(head: Head) -> Check:
    kind, problem = head["compression_type"], None
    if kind >= len(layout.COMPRESSION_NAMES):
        problem = f"compression type {kind} is unknown"
    elif bool(head["incompatible"] & layout.INCOMPATIBLE_COMPRESSION) != bool(kind):
        problem = "the compression type and its feature bit contradict each other"
    return judge("compression-type", problem)


def _check_encryption(head: Head, policy: Policy) -> Check:
    method = head["crypt_method"]
    if method > 2:
        return refuse("encryption", f"encryption method {method} is unknown")
    return policy.judge("encryption", f"encrypted ({('', 'AES', 'LUKS')[method]})") if method else ok("encryption", "none")


def _check_virtual_size(head: Head, policy: Policy) -> Check:
    size, mapped, problem = head["size"], head["l1_size"] * head.bytes_per_l1_entry, None
    if size > policy.max_size:
        problem = f"a disk of {size} bytes; at most {policy.max_size} are let through"
    elif size > mapped:
        problem = f"a disk of {size} bytes, of which the L1 table maps {mapped}"
    return judge("virtual-size", problem, f"{size} bytes")


def _check_l1(head: Head) -> Check:
    entries = head["l1_size"]
    if entries * 8 > layout.MAX_L1_BYTES:
        return refuse("l1-table", f"{entries} entries; at most {layout.MAX_L1_BYTES // 8} are allowed")
    return judge("l1-table", _misplaced(head, head["l1_table_offset"]) if entries else None, f"{entries} entries")


def _check_refcounts(head: Head) -> Check:
    clusters, order = head["refcount_table_clusters"], head["refcount_order"]
    if order > layout.MAX_REFCOUNT_ORDER:
        return refuse("refcount-table", f"refcounts of 2^{order} bits; at most 64 bits are allowed")
    if not clusters:
        return refuse("refcount-table", "there is none")
    if clusters * head.cluster_size > layout.MAX_REFCOUNT_TABLE_BYTES:
        return refuse("refcount-table", f"{clusters} clusters; at most {layout.MAX_REFCOUNT_TABLE_BYTES} bytes are allowed")
    return judge("refcount-table", _misplaced(head, head["refcount_table_offset"]), counted(clusters, "cluster"))


def _check_snapshots(head: Head, policy: Policy) -> Check:
    number = head["nb_snapshots"]
    if number > layout.MAX_SNAPSHOTS or number * _SNAPSHOT_BYTES > _MAX_SNAPSHOT_TABLE_BYTES:
        return refuse("snapshots", f"{number} internal snapshots; at most {layout.MAX_SNAPSHOTS} are allowed")
    if number and (problem := _misplaced(head, head["snapshots_offset"])):
        return refuse("snapshots", problem)
    return policy.judge("snapshots", counted(number, "internal snapshot")) if number else ok("snapshots", "none")


def _misplaced(head: Head, offset: int) -> str | None:
    """Says what is wrong with a table's offset, as far as the header alone shows."""
    if offset % head.cluster_size:
        return f"it begins at {offset:#x}, which is not a cluster's start"
    return None if head.cluster_size <= offset < 1 << 56 else f"it begins at {offset:#x}"
