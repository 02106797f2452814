"""Files: positional I/O, holes, reflink, atomic replacement, QEMU's locks, and what web servers give out."""
