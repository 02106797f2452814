"""Guest requests that change an image: write, write compressed, zero, discard.

Guest data goes straight to its clusters; the tables that show it change in memory (see `metadata`). A cluster is written in
place only if this image alone uses it; otherwise a new one takes its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.formats.layer import Below
from cowherd.formats.qcow2 import entries as l2
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.descriptor import compressed_word
from cowherd.formats.qcow2.entries import Entries, data_word
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.metadata import Metadata
from cowherd.formats.qcow2.state import ImageState
from cowherd.formats.qcow2.tables import l2_offsets
from cowherd.storage.copying import Bytes, put

ReadVisible = Callable[[int, memoryview, Below | None], None]
"""Fills a buffer with what the guest sees through this image: `read(guest_offset, buffer, below)`."""

_ZEROS = memoryview(bytes(1 << 20))


class _Run(NamedTuple):
    """Adjacent clusters of one L2 table in the same condition: [first, last) are indices into it."""

    first: int
    last: int
    in_place: bool
    complete: bool


class Writer:
    """Carries out guest requests on one image. Belongs to one thread at a time."""

    def __init__(self, state: ImageState, metadata: Metadata, read_visible: ReadVisible):
        self._state, self.metadata, self._read_visible = state, metadata, read_visible
        self.limit: int | None = None
        """The end of the guest bytes that may change although the header names a smaller size: the image is about to grow."""

    @property
    def header(self) -> Header:
        """The header as it is now."""
        return self._state.header

    @property
    def _end(self) -> int:
        return self.header.size if self.limit is None else self.limit

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Writes guest bytes at `start`; the request must lie inside the virtual size."""
        for index, position, length in self._by_table(start, len(data)):
            piece = data[position - start : position - start + length]
            self._write_in_table(index, position, piece, below)
            self.metadata.flush_if_large()

    def write_compressed(self, guest: int, compressed: bytes) -> bool:
        """Writes compressed data for the cluster at guest offset `guest`. Returns False if it is no smaller than the cluster."""
        size = self.header.cluster_size
        if len(compressed) >= size:
            return False
        host = self.metadata.allocate_bytes(len(compressed))
        self._state.file.pwrite(host, compressed)
        index, within = divmod(guest // size, self.header.l2_entries)
        table = self.metadata.owned_l2(index)
        self.metadata.free_words(table[within : within + 1, 0])
        table[within] = 0
        table[within, 0] = compressed_word(host, len(compressed), self.header.cluster_bits)
        self.metadata.flush_if_large()
        return True

    def zero(self, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        """Makes a range read as zeros: changes the tables for whole units, and writes zeros to the rest."""
        end = start + length
        if self.header.version < 3 and not (unmap and below is None):
            self._write_zeros(start, end, below)
            return
        # Version 2 has no zero clusters; without a backing file an unallocated one does as well.
        unit = self.header.subcluster_size
        first = min(-(-start // unit) * unit, end)
        last = end if end == self._end else max(end // unit * unit, first)
        self._write_zeros(start, first, below)
        for index, position, part in self._by_table(first, last - first):
            self._zero_in_table(index, position, part, below, unmap=unmap)
            self.metadata.flush_if_large()
        self._write_zeros(last, end, below)

    def discard(self, start: int, length: int, below: Below | None) -> None:
        """Frees the whole clusters inside the range; they read as zeros from then on.

        A version 2 image with a backing file keeps them: it could not hide the backing file's bytes.
        """
        if self.header.version < 3 and below is not None:
            return
        size, end = self.header.cluster_size, start + length
        first = -(-start // size) * size
        last = end if end == self._end else end // size * size
        for index, position, part in self._by_table(first, max(0, last - first)):
            self._discard_in_table(index, position, part, keep_unallocated=below is None)
            self.metadata.flush_if_large()

    def deallocate(self, start: int, end: int) -> None:
        """Frees all clusters of [start, end), which are whole, so that the backing file shows. Used to empty and to shrink."""
        size, tables = self.header.cluster_size, self.metadata.tables
        low, high = start // tables.reach, -(-end // tables.reach)
        for index in (low + np.flatnonzero(l2_offsets(tables.l1[low:high]))).tolist():
            base = index * tables.reach
            first, last = max(0, start - base) // size, -(-(min(end, base + tables.reach) - base) // size)
            if (present := tables.l2(index)) is None or not present[first:last].any():
                continue
            table = self.metadata.owned_l2(index)
            self.metadata.free_words(table[first:last, 0])
            table[first:last] = 0
            if not table.any():
                self.metadata.drop_l2(index)
            self.metadata.flush_if_large()

    def preallocate(self, start: int, length: int, *, reserve: bool) -> None:
        """Gives each unallocated whole cluster of the range a place in the file; it reads as zeros."""
        size, end = self.header.cluster_size, start + length
        first = -(-start // size) * size
        for index, position, part in self._by_table(first, max(0, -(-end // size) * size - first)):
            within = position // size % self.header.l2_entries
            self._place_zeros(index, within, within + part // size, reserve=reserve)
            self.metadata.flush_if_large()

    def _by_table(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Splits a range by L2 tables: yields (L1 index, guest start, length)."""
        reach, end = self.metadata.tables.reach, start + length
        while start < end:
            index = start // reach
            stop = min(end, (index + 1) * reach)
            yield index, start, stop - start
            start = stop

    def _write_in_table(self, index: int, start: int, data: Bytes, below: Below | None) -> None:
        size = self.header.cluster_size
        base = index * self.metadata.tables.reach
        first, last = (start - base) // size, -(-(start + len(data) - base) // size)
        for run in self._runs(index, first, last, start, start + len(data)):
            lo = max(start, base + run.first * size)
            hi = min(start + len(data), base + run.last * size)
            piece = data[lo - start : hi - start]
            if run.in_place and run.complete:
                self._overwrite(index, run, lo, piece)
            elif run.in_place:
                self._fill_in_place(index, run, lo, piece, below)
            else:
                self._write_new(index, run, lo, piece, below)

    def _runs(self, index: int, first: int, last: int, start: int, end: int) -> Iterator[_Run]:
        """Yields runs of clusters [first, last) of a table that are in the same condition, and adjacent if written in place."""
        table = self.metadata.tables.l2(index)
        if table is None or not self.metadata.tables.owns_l2(index):
            yield _Run(first, last, in_place=False, complete=False)
            return
        entries = table[first:last]
        if len(entries) == 1:
            yield self._only_run(entries, index, first, start, end)
            return
        words = entries[:, 0]
        host = (words & l2.OFFSET_MASK).astype(np.int64)
        in_place = ((words & l2.COPIED) != 0) & ((words & l2.COMPRESSED) == 0) & (host != 0)
        complete = in_place & self._complete(entries, index, first, start, end)
        adjacent = ~in_place[1:] | (np.diff(host) == self.header.cluster_size)
        same = (in_place[1:] == in_place[:-1]) & (complete[1:] == complete[:-1]) & adjacent
        borders = [0, *(np.flatnonzero(~same) + 1).tolist(), len(entries)]
        for begin, stop in itertools.pairwise(borders):
            yield _Run(first + begin, first + stop, bool(in_place[begin]), bool(complete[begin]))

    def _only_run(self, entries: Entries, index: int, first: int, start: int, end: int) -> _Run:
        """Returns what `_runs` yields for one cluster, without arrays, because most requests of a guest are that short."""
        word = int(entries[0, 0])
        own = bool(word & layout.COPIED and word & layout.L2_OFFSET_MASK and not word & layout.COMPRESSED_FLAG)
        if own and self.header.extended_l2:
            return _Run(first, first + 1, own, bool(self._complete(entries, index, first, start, end)[0]))
        return _Run(first, first + 1, own, own and not word & layout.ZERO_FLAG)

    def _complete(self, entries: Entries, index: int, first: int, start: int, end: int) -> NDArray[np.bool_]:
        """Returns whether each cluster shows data in every unit that [start, end) touches, so that its entry need not change."""
        if not self.header.extended_l2:
            plain: NDArray[np.bool_] = (entries[:, 0] & l2.ZERO) == 0
            return plain
        touched = self._touched(index, first, first + len(entries), start, end)
        shown: NDArray[np.bool_] = (entries[:, 1] & touched) == touched
        return shown

    def _touched(self, index: int, first: int, last: int, start: int, end: int) -> NDArray[np.uint64]:
        """Returns the bits of the subclusters that [start, end) touches, for each cluster of [first, last)."""
        size, sub = self.header.cluster_size, self.header.subcluster_size
        bits = np.full(last - first, l2.ALL, np.uint64)
        base = index * self.metadata.tables.reach + first * size
        head = max(0, start - base) // sub
        bits[0] &= np.uint64(l2.ALL & ~((1 << head) - 1))
        tail_start = base + (last - first - 1) * size
        tail = -(-(min(end, tail_start + size) - tail_start) // sub)
        bits[-1] &= np.uint64((1 << tail) - 1)
        return bits

    def _overwrite(self, index: int, run: _Run, start: int, data: Bytes) -> None:
        host = self._host(index, run, start)
        self.metadata.refuse_overlap(host, len(data))
        put(self._state.file, host, data)

    def _fill_in_place(self, index: int, run: _Run, start: int, data: Bytes, below: Below | None) -> None:
        """Writes to clusters that the image owns, in units that have shown zeros or the backing file."""
        lo, hi = self._whole_units(start, start + len(data), index, run, in_place=True)
        host = self._host(index, run, lo)
        self.metadata.refuse_overlap(host, hi - lo)
        self._write_filled(host, lo, hi, start, data, below)
        self._show(index, run, lo, hi)

    def _host(self, index: int, run: _Run, guest: int) -> int:
        table = self.metadata.tables.l2(index)
        if table is None:
            raise AssertionError("a run written in place has a table")
        within = guest - index * self.metadata.tables.reach - run.first * self.header.cluster_size
        return (int(table[run.first, 0]) & layout.L2_OFFSET_MASK) + within

    def _write_new(self, index: int, run: _Run, start: int, data: Bytes, below: Below | None) -> None:
        """Writes to new clusters, as many adjacent ones at a time as can be had."""
        size = self.header.cluster_size
        first, end = run.first, start + len(data)
        base = index * self.metadata.tables.reach
        self.metadata.owned_l2(index)  # a new table lies before what it maps, so that the file can be truncated behind it
        while first < run.last:
            host, number = self.metadata.allocate(run.last - first)
            part = _Run(first, first + number, in_place=False, complete=False)
            lo, hi = max(start, base + first * size), min(end, base + part.last * size)
            try:
                fill_lo, fill_hi = self._whole_units(lo, hi, index, part, in_place=False)
                place = host + fill_lo - (base + first * size)
                self._write_filled(place, fill_lo, fill_hi, lo, data[lo - start : hi - start], below)
            except BaseException:
                self.metadata.take_back(host, number)
                raise
            self._point_to(index, part, host)
            self._show(index, part, fill_lo, fill_hi)
            first = part.last

    def _whole_units(self, start: int, end: int, index: int, run: _Run, *, in_place: bool) -> tuple[int, int]:
        """Widens [start, end) to the range to write so that every unit that shows data afterwards is whole.

        Units are subclusters; a new cluster that replaces one with content of its own takes over all of it. In place, a
        unit that already shows data needs no filling.
        """
        size, sub = self.header.cluster_size, self.header.subcluster_size
        table = self.metadata.tables.l2(index)
        base = index * self.metadata.tables.reach
        lo, hi = start // sub * sub, -(-end // sub) * sub
        if table is None:
            return lo, hi
        if in_place:
            if self.header.extended_l2:
                lo = start if self._shows_data(table, start - base) else lo
                hi = end if self._shows_data(table, end - 1 - base) else hi
            return lo, hi
        content = layout.L2_OFFSET_MASK | layout.COMPRESSED_FLAG
        lo = base + run.first * size if int(table[run.first, 0]) & content else lo
        hi = base + run.last * size if int(table[run.last - 1, 0]) & content else hi
        return lo, hi

    def _shows_data(self, table: Entries, offset: int) -> bool:
        cluster, within = divmod(offset, self.header.cluster_size)
        return bool(int(table[cluster, 1]) >> (within // self.header.subcluster_size) & 1)

    def _write_filled(self, host: int, lo: int, hi: int, start: int, data: Bytes, below: Below | None) -> None:
        """Writes [lo, hi) at `host`: `data` from `start` on, and around it what is visible now."""
        end = start + len(data)
        head, tail = self._visible(lo, start, below), self._visible(end, hi, below)
        if isinstance(data, memoryview):
            self._state.file.pwritev(host, [piece for piece in (head, data, tail) if len(piece)])
            return
        self._state.file.pwrite(host, head)
        data.put(self._state.file, host + start - lo)
        self._state.file.pwrite(host + end - lo, tail)

    def _visible(self, start: int, end: int, below: Below | None) -> memoryview:
        buffer = memoryview(bytearray(end - start))
        seen = min(end, self._end) - start
        if seen > 0:
            self._read_visible(start, buffer[:seen], below)
        return buffer

    def _point_to(self, index: int, run: _Run, host: int) -> None:
        table = self.metadata.owned_l2(index)
        old = table[run.first : run.last, 0].copy()
        if run.last - run.first == 1:
            table[run.first, 0] = data_word(host)
            self.metadata.free_words(old)
            return
        step = np.arange(run.last - run.first, dtype=np.uint64) * np.uint64(self.header.cluster_size)
        table[run.first : run.last, 0] = (step + np.uint64(host)) | l2.COPIED
        self.metadata.free_words(old)

    def _show(self, index: int, run: _Run, lo: int, hi: int) -> None:
        """Marks the units of [lo, hi) as data; all other units show what they did."""
        table = self.metadata.owned_l2(index)
        if not self.header.extended_l2:
            table[run.first : run.last, 0] &= ~l2.ZERO
            return
        touched = self._touched(index, run.first, run.last, lo, hi)
        bitmap = table[run.first : run.last, 1]
        bitmap |= touched
        bitmap &= ~(touched << np.uint64(layout.SUBCLUSTERS))

    def _write_zeros(self, start: int, end: int, below: Below | None) -> None:
        if start < end and not self._reads_zero(start, end, below):
            for position in range(start, end, len(_ZEROS)):
                self.write(position, _ZEROS[: min(len(_ZEROS), end - position)], below)

    def _reads_zero(self, start: int, end: int, below: Below | None) -> bool:
        kinds = self.metadata.tables.extents(start, end - start)["kind"]
        return bool(np.isin(kinds, (ext.ZERO, ext.BACKING) if below is None else (ext.ZERO,)).all())

    def _zero_in_table(self, index: int, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        size, sub = self.header.cluster_size, self.header.subcluster_size
        base = index * self.metadata.tables.reach
        end = -(-(start + length) // sub) * sub
        first, last = -(-(start - base) // size), (end - base) // size
        if first > last:  # inside one cluster
            self._zero_subclusters(index, start, end, below)
            return
        self._zero_subclusters(index, start, base + first * size, below)
        if self.header.version < 3:
            self._discard_in_table(index, base + first * size, (last - first) * size, keep_unallocated=True)
        elif first < last:
            self._zero_clusters(index, first, last, unmap=unmap)
        self._zero_subclusters(index, base + last * size, end, below)

    def _zero_clusters(self, index: int, first: int, last: int, *, unmap: bool) -> None:
        table = self.metadata.owned_l2(index)
        part = table[first:last]
        old = part.copy()
        words = old[:, 0]
        kept = ((words & l2.COPIED) != 0) & ((words & l2.COMPRESSED) == 0) & (words & l2.OFFSET_MASK != 0) & (not unmap)
        if self.header.extended_l2:
            part[:, 0] = np.where(kept, words, np.uint64(0))
            part[:, 1] = l2.ZERO_BITS
        else:
            part[:, 0] = np.where(kept, words | l2.ZERO, l2.ZERO)
        self.metadata.free_words(words[~kept])

    def _zero_subclusters(self, index: int, start: int, end: int, below: Below | None) -> None:
        """Makes whole subclusters of one cluster read as zeros."""
        if start >= end:
            return
        cluster = (start - index * self.metadata.tables.reach) // self.header.cluster_size
        table = self.metadata.owned_l2(index)
        if int(table[cluster, 0]) & layout.COMPRESSED_FLAG:
            self._write_zeros(start, min(end, self._end), below)
            return
        touched = self._touched(index, cluster, cluster + 1, start, end)[0]
        table[cluster, 1] = (table[cluster, 1] & ~touched) | (touched << np.uint64(layout.SUBCLUSTERS))

    def _place_zeros(self, index: int, first: int, last: int, *, reserve: bool) -> None:
        table = self.metadata.owned_l2(index)
        placed = table[first:last, 0] & (l2.OFFSET_MASK | l2.COMPRESSED) != 0
        borders = [0, *(np.flatnonzero(np.diff(placed)) + 1).tolist(), len(placed)]
        for begin, end in itertools.pairwise(borders):
            position = first + begin
            while position < first + end and not placed[begin]:
                host, number = self.metadata.allocate(first + end - position)
                self._make_room(host, number * self.header.cluster_size, reserve=reserve)
                self._point_to(index, _Run(position, position + number, in_place=False, complete=False), host)
                if self.header.extended_l2:
                    table[position : position + number, 1] = l2.ZERO_BITS
                elif self.header.version >= 3:
                    table[position : position + number, 0] |= l2.ZERO
                position += number

    def _make_room(self, host: int, length: int, *, reserve: bool) -> None:
        """Makes the file reach behind new clusters. Version 2 has no zero clusters and shows their bytes at once: zeroes them."""
        file = self._state.file
        if reserve:
            file.preallocate(host, length)
        elif file.size() < host + length:
            file.reach(host + length)
        if self.header.version < 3:
            file.write_zeros(host, length, unmap=not reserve)

    def _discard_in_table(self, index: int, start: int, length: int, *, keep_unallocated: bool) -> None:
        if length <= 0 or (keep_unallocated and not self.metadata.tables.l2_offset(index)):
            return
        size = self.header.cluster_size
        first = (start - index * self.metadata.tables.reach) // size
        last = first + -(-length // size)
        table = self.metadata.owned_l2(index)
        part = table[first:last]
        old = part.copy()
        part[...] = 0
        if self.header.version >= 3:
            part[:, -1] = l2.ZERO_BITS if self.header.extended_l2 else l2.ZERO
        if keep_unallocated:
            part[~old.any(axis=1)] = 0
        self.metadata.free_words(old[:, 0])
