"""The two codecs of compressed clusters.

zlib clusters are raw deflate streams (RFC 1951) with a window of 4 KiB, because QEMU inflates with that window; a zstd cluster is
one frame. Decompression never produces more than one cluster, whatever the data claims.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFLATE_WINDOW_BITS = -12  # zlib's way to say: 2^12 bytes, without header and checksum
_ISAL_LEVEL = 2
_ZSTD_LEVEL = 1
"""A quarter faster than QEMU's level, 3, for files that are 4 % larger."""
_UNKNOWN = -1


class CodecError(ValueError):
    """Compressed data is damaged: it ends early or makes no sense."""


class Codec(ABC):
    """Compresses and decompresses single clusters; safe to use from several threads, and releases the interpreter lock."""

    @abstractmethod
    def compress(self, cluster: bytes | memoryview) -> bytes:
        """Returns `cluster` compressed; it may come out longer."""

    @abstractmethod
    def decompress(self, data: bytes | memoryview, size: int) -> bytes:
        """Returns the first `size` bytes that `data` decompresses to; ignores what follows in `data`.

        Raises `CodecError` if the data is damaged or gives fewer bytes.
        """


def codec(name: str) -> Codec:
    """Returns the codec that a header's `compression` names: "zlib" or "zstd"."""
    return Deflate() if name == "zlib" else Zstandard()


class Deflate(Codec):
    """Raw deflate by ISA-L, several times as fast as zlib at a similar ratio."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._zlib: Any = isal_zlib

    def compress(self, cluster: bytes | memoryview) -> bytes:
        """Returns `cluster` compressed; it may come out longer."""
        stream = self._zlib.compressobj(_ISAL_LEVEL, self._zlib.DEFLATED, DEFLATE_WINDOW_BITS)
        return bytes(stream.compress(cluster) + stream.flush())

    def decompress(self, data: bytes | memoryview, size: int) -> bytes:
        """See `Codec.decompress`."""
        stream = self._zlib.decompressobj(DEFLATE_WINDOW_BITS)
        try:
            out = stream.decompress(data, size)
        except self._zlib.error as error:
            raise CodecError(str(error)) from error
        if len(out) != size:
            raise CodecError(f"the stream ends after {len(out)} of {size} bytes")
        return bytes(out)


class Zstandard(Codec):
    """zstd frames. Keeps a context for each thread, because making one costs more than compressing a cluster."""

    def __init__(self) -> None:
        import zstandard

        self._zstandard = zstandard
        self._contexts = threading.local()

    def compress(self, cluster: bytes | memoryview) -> bytes:
        """Returns `cluster` compressed; it may come out longer."""
        context: Any = getattr(self._contexts, "compressor", None)
        if context is None:
            context = self._contexts.compressor = self._zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=False)
        return bytes(context.compress(cluster))

    def decompress(self, data: bytes | memoryview, size: int) -> bytes:
        """See `Codec.decompress`."""
        context: Any = getattr(self._contexts, "decompressor", None)
        if context is None:
            context = self._contexts.decompressor = self._zstandard.ZstdDecompressor()
        try:
            # A frame may claim any size, and the library takes memory for it before it looks at the data.
            if self._zstandard.frame_content_size(data) in (size, _UNKNOWN):
                out = context.decompress(data, max_output_size=size)
                if len(out) == size:
                    return bytes(out)
        except self._zstandard.ZstdError:
            pass  # several frames, or a longer one: the stream below reads as much of them as is needed
        try:
            with context.stream_reader(data, read_across_frames=True) as reader:
                out = reader.read(size)
        except self._zstandard.ZstdError as error:
            raise CodecError(str(error)) from error
        if len(out) != size:
            raise CodecError(f"the frame ends after {len(out)} of {size} bytes")
        return bytes(out)
