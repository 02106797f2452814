"""The names of the file systems that rows are measured on. How one is made: `bench.mounts`."""

from __future__ import annotations

TMPFS, XFS, EXT4_COLD, EXT4_WARM = "tmpfs", "xfs", "ext4-cold", "ext4-warm"

PLACES = (TMPFS, XFS, EXT4_COLD, EXT4_WARM)
"""In the order of the table."""

MEMORY = (TMPFS, XFS)
DISK = (EXT4_COLD, EXT4_WARM)
"""An ext4 on the machine's disk: nothing is in the page cache when a run begins, or all of the inputs are."""
