"""The block of a seal: what one digest stands for. Seals and bindings say how large it is; another size is refused by name."""

from __future__ import annotations

BLOCK = 65536
"""Bytes of guest address space that one digest stands for."""

DIGEST_BYTES = 32
"""Bytes of a BLAKE3 digest."""
