"""Host files: positional I/O, holes, reflink, atomic replacement, and locks that QEMU understands."""
