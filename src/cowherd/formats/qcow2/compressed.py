"""Reads compressed clusters."""

from __future__ import annotations

from cowherd.errors import ImageFormatError
from cowherd.formats.qcow2.compression import Codec, CodecError, codec
from cowherd.formats.qcow2.descriptor import CompressedPlace, compressed_place
from cowherd.formats.qcow2.header import Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cowherd.storage.blocks import BlockFile

_SMALL_GAP = 64 << 10  # bytes; reading that many for nothing costs less than one more request
_LONGEST_PIECE = 4 << 20


Piece = tuple[int, int, list[tuple[int, CompressedPlace]]]


def close_together(places: Sequence[CompressedPlace]) -> Iterator[Piece]:
    """Yields (begin, end, [(index, place), ...]) of pieces of the file that hold compressed clusters with little between them.

    A piece includes a gap if reading it costs less than another request. A piece is at most `_LONGEST_PIECE` bytes long, unless
    a single cluster is longer.
    """
    piece: list[tuple[int, CompressedPlace]] = []
    begin = end = 0
    for index, place in sorted(enumerate(places), key=lambda numbered: numbered[1]):
        after = place.offset + place.length
        if piece and (place.offset > end + _SMALL_GAP or after > begin + _LONGEST_PIECE):
            yield begin, end, piece
            piece = []
        if not piece:
            begin, end = place.offset, after
        piece.append((index, place))
        end = max(end, after)
    if piece:
        yield begin, end, piece


class CompressedReader:
    """Reads guest bytes that lie in compressed clusters of one image. Several threads may do so at once."""

    def __init__(self, file: BlockFile, header: Header, words_at: Callable[[list[int]], list[int]]):
        """`words_at` returns the L2 words of guest clusters, given their numbers."""
        self._file, self._words_at = file, words_at
        self._size, self._bits = header.cluster_size, header.cluster_bits
        self._compression = header.compression
        self._codec: Codec | None = None
        self._last: tuple[int, bytes] | None = None

    def read(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer with guest bytes, from its guest offset on. Raises `ImageFormatError` for a damaged cluster."""
        size = self._size
        whole: list[tuple[int, memoryview]] = []
        for start, buffer in parts:
            end = start + len(buffer)
            for guest in range(start // size * size, end, size):
                low, high = max(start, guest), min(end, guest + size)
                if high - low == size:
                    whole.append((guest, buffer[low - start : high - start]))
                else:
                    buffer[low - start : high - start] = self._cluster(guest)[low - guest : high - guest]
        if len(whole) == 1:
            whole[0][1][:] = self._cluster(whole[0][0])
        elif whole:
            self._read_whole(whole)

    def forget(self) -> None:
        """Drops what was read. Called before the image changes."""
        self._last = None

    def codec(self) -> Codec:
        """Returns the codec of this image's clusters."""
        if self._codec is None:
            self._codec = codec(self._compression)
        return self._codec

    def _read_whole(self, clusters: list[tuple[int, memoryview]]) -> None:
        """Fills each buffer with the compressed cluster at its guest offset; reads data that lies close together at once."""
        words = self._words_at([guest // self._size for guest, _ in clusters])
        for begin, end, piece in close_together([compressed_place(word, self._bits) for word in words]):
            data = memoryview(self._file.pread(begin, end - begin))
            for index, (offset, length) in piece:
                guest, buffer = clusters[index]
                buffer[:] = self._decompress(data[offset - begin : offset - begin + length], guest)

    def _cluster(self, guest: int) -> bytes:
        """Returns one cluster, and keeps it for a caller that reads it in parts."""
        remembered = self._last  # taken once: another thread may replace it at any time
        if remembered is not None and remembered[0] == guest:
            return remembered[1]
        (word,) = self._words_at([guest // self._size])
        place = compressed_place(word, self._bits)
        cluster = self._decompress(self._file.pread(place.offset, place.length), guest)
        self._last = (guest, cluster)
        return cluster

    def _decompress(self, data: bytes | memoryview, guest: int) -> bytes:
        try:
            return self.codec().decompress(data, self._size)
        except CodecError as error:
            problem = f"the compressed cluster of guest offset {guest:#x} is damaged: {error}"
            raise ImageFormatError(self._file.path, problem) from error
