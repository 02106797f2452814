"""The block of a seal: the bytes that one digest covers. Seals and bindings record its size; readers refuse any other size."""

from __future__ import annotations

BLOCK = 65536
"""Bytes of guest address space that one digest covers."""

DIGEST_BYTES = 32
"""Bytes of a BLAKE3 digest."""
