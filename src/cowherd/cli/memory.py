"""Makes this process keep memory that it has freed and will soon need again.

Every group of tables makes and drops arrays of some MiB. The C library returns such pieces to the kernel at once, and the kernel
clears every page again for the next array: more than half of the time that reading the tables of a large image takes.
"""

from __future__ import annotations

from cowherd import arrays

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
_KEPT_BYTES = 16 << 20


def keep_freed_memory() -> None:
    """Makes the allocator keep up to 16 MiB of free memory as soon as arrays are used, if the C library has that choice."""
    arrays.when_in_use(_keep)


def _keep() -> None:
    import ctypes  # numpy loads it, too

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
