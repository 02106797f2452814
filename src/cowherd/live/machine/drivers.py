"""QEMU's block drivers: which ones read a file, which ones pass on the bytes of a child, and which options of each name no file.

Source: the QEMU QMP reference, "Block devices", BlockdevOptions and the types in it; and QEMU 10's block/*.c for options that
only -drive has.
"""

from __future__ import annotations

from cowherd.live.machine.options import names

FILES = frozenset(("file", "host_device", "host_cdrom", "io_uring"))
"""Drivers that open the file that `filename` names."""
REMOTE = names(
    "nbd ssh http https ftp ftps iscsi iser rbd gluster nfs nvme null-co null-aio nvme-io_uring virtio-blk-vfio-pci "
    "virtio-blk-vhost-user virtio-blk-vhost-vdpa sheepdog vxhs"
)
"""Drivers without a local file behind them."""
DIRECTORY = "vvfat"
PREFIXES = (
    {name: name for name in (*REMOTE, "file", "host_device", "host_cdrom", "blkdebug", "blkverify")}
    | {"fat": DIRECTORY}
    | dict.fromkeys(("nbd+tcp", "nbd+unix"), "nbd")
    | dict.fromkeys(("gluster+tcp", "gluster+unix", "gluster+rdma"), "gluster")
    | dict.fromkeys(("sheepdog+tcp", "sheepdog+unix"), "sheepdog")
    | {"tftp": "http"}
)
"""The prefixes that a file's name may have before a colon, with the driver that each means."""
PROTOCOLS = FILES | REMOTE | {DIRECTORY, "blkdebug", "blkverify"}
"""Drivers at the bottom of a tree: QEMU guesses no format for their children."""

FILTERS = {
    "throttle": "file",
    "copy-on-read": "file",
    "compress": "file",
    "preallocate": "file",
    "snapshot-access": "file",
    "replication": "file",
    "copy-before-write": "file",
    "blklogwrites": "file",
    "blkdebug": "image",
    "blkreplay": "image",
}
"""Drivers that pass on the bytes of their child, with the option that names the child."""
WRITTEN_BESIDE = {"copy-before-write": "target", "blklogwrites": "log"}
"""Another child of such a driver, which it writes to."""
WITH_BACKING = frozenset(("qcow2", "qcow", "qed", "vmdk"))
ALONE = frozenset(("raw", "luks", "parallels", "bochs", "cloop", "dmg", "vdi", "vpc", "vhdx"))
"""Formats that name no other file."""
FORMATS = WITH_BACKING | ALONE

EVERYWHERE = names(
    "driver node-name discard active read-only auto-read-only detect-zeroes force-share cache.direct cache.no-flush "
    "cache.writeback copy-on-read"
)
_OF_FILES = names("filename pr-manager aio aio-max-batch locking drop-cache x-check-cache-dropped")
_OF_DRIVERS = {
    "raw": "offset size",
    "luks": "key-secret",
    "qcow": "encrypt.format encrypt.key-secret",
    "qcow2": "lazy-refcounts pass-discard-request pass-discard-snapshot pass-discard-other discard-no-unref overlap-check "
    "cache-size l2-cache-size l2-cache-entry-size refcount-cache-size cache-clean-interval encrypt.format encrypt.key-secret",
    "parallels": "prealloc-size prealloc-mode",
    "vpc": "force_size_calc",
    "throttle": "throttle-group",
    "copy-on-read": "bottom",
    "preallocate": "prealloc-align prealloc-size",
    "replication": "mode top-id",
    "copy-before-write": "bitmap.node bitmap.name on-cbw-error cbw-timeout min-cluster-size",
    "blklogwrites": "log-sector-size log-append log-super-update-interval",
    "blkdebug": "config align max-transfer opt-write-zero max-write-zero opt-discard max-discard",
    "quorum": "blkverify vote-threshold rewrite-corrupted read-pattern",
}
_GROUPS = {
    "qcow2": ("overlap-check.",),
    "blkdebug": ("inject-error.", "set-state.", "take-child-perms.", "unshare-child-perms."),
}


def names_nothing(driver: str | None, key: str) -> bool:
    """Returns whether an option of a driver (None: of a format that QEMU will guess) is known and names no image."""
    if key in EVERYWHERE or (driver in FILES and key in _OF_FILES):
        return True
    driver = driver or "qcow2"
    return key in _OF_DRIVERS.get(driver, "").split() or key.startswith(_GROUPS.get(driver, ("\0",)))
