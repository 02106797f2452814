"""Decompresses a sample of an image's compressed clusters, to see whether each gives a cluster without an error."""

from __future__ import annotations

import numpy as np

from cowherd.formats.qcow2.compression import CodecError, codec
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.runs import Integers
from cowherd.ops.inspect.report import Check, ok, refuse
from cowherd.storage.hostfile import HostFile
from cowherd.text import counted

_MOST_EACH = 16
_MOST_CLUSTERS = 256
_MOST_BYTES = 64 << 20


class Sample:
    """Counts compressed clusters, and remembers the places of a few out of each group of tables."""

    def __init__(self) -> None:
        self.clusters = 0
        self._places: list[tuple[int, int]] = []

    def take(self, offsets: Integers, sizes: Integers) -> None:
        """Takes the file offsets and the sizes, in bytes, of the compressed clusters in some tables."""
        self.clusters += len(offsets)
        if len(offsets) and len(self._places) < _MOST_CLUSTERS:
            chosen = np.unique(np.linspace(0, len(offsets) - 1, min(len(offsets), _MOST_EACH)).astype(np.int64))
            self._places += zip(offsets[chosen].tolist(), sizes[chosen].tolist(), strict=True)

    def check(self, file: HostFile, header: Header) -> Check:
        """Decompresses the sample, at most 64 MiB of output; the decoder stops at one cluster."""
        decoder = codec(header.compression)
        places = self._places[: max(1, min(_MOST_CLUSTERS, _MOST_BYTES // header.cluster_size))]
        for offset, size in places:
            try:
                decoder.decompress(file.pread(offset, size), header.cluster_size)
            except CodecError as error:
                return refuse("compressed-data", f"the compressed cluster at {offset:#x} is damaged: {error}")
        return ok("compressed-data", f"{counted(self.clusters, 'compressed cluster')}, {len(places)} of them tried")
