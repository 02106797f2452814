"""How this process keeps memory that it has freed and will soon want again.

Arrays of some MiB are made and dropped for every group of tables. The C library gives such pieces back to the kernel at once,
which clears every page anew when the next array comes: more than half of what going through the tables of a large image costs.
"""

from __future__ import annotations

from cowherd import arrays

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
_KEPT_BYTES = 16 << 20


def keep_freed_memory() -> None:
    """Lets the allocator keep up to 16 MiB that are free, once arrays come into use; if the C library has that choice."""
    arrays.when_in_use(_keep)


def _keep() -> None:
    import ctypes  # numpy loads it, too

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
