"""The numbers in a qcow2 header, unchecked."""

from __future__ import annotations

from typing import NamedTuple

from cowherd.formats.qcow2 import layout

ENOUGH_BYTES = 512
"""Bytes of a file's start that hold the fixed fields; no cluster is smaller."""


class Region(NamedTuple):
    """A part of the file that the header names: `what` it holds, and where, in bytes."""

    what: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length


class Head:
    """The fixed fields by their names in `cowherd.formats.qcow2.layout`; fields that version 2 lacks have the implied values."""

    def __init__(self, area: bytes):
        """`area` is the start of the file: `ENOUGH_BYTES` or more, or the whole file if that is shorter."""
        self.short = len(area) < layout.V2_HEADER_LENGTH
        self.values = layout.HEADER.unpack(area.ljust(ENOUGH_BYTES, b"\0"), 4)
        self.values |= {"incompatible": 0, "compatible": 0, "autoclear": 0, "refcount_order": 4, "compression_type": 0}
        self.values["header_length"] = layout.V2_HEADER_LENGTH
        if self["version"] >= 3:
            self.short = len(area) < layout.V3_HEADER_LENGTH
            self.values |= layout.HEADER_V3.unpack(area.ljust(ENOUGH_BYTES, b"\0"), layout.V2_HEADER_LENGTH)
            if self["header_length"] > layout.COMPRESSION_TYPE_OFFSET < len(area):
                self.values["compression_type"] = area[layout.COMPRESSION_TYPE_OFFSET]

    def __getitem__(self, name: str) -> int:
        return self.values[name]

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster. `cluster_bits` must have been checked."""
        return 1 << self["cluster_bits"]

    @property
    def bytes_per_l1_entry(self) -> int:
        """Guest bytes that one L1 entry maps."""
        entry = 16 if self["incompatible"] & layout.INCOMPATIBLE_EXTENDED_L2 else 8
        return self.cluster_size // entry * self.cluster_size

    def regions(self) -> list[Region]:
        """Returns the tables that the header names; for the snapshot table only the least that its entries need."""
        least = self["nb_snapshots"] * 40
        found = [
            Region("header", 0, self.cluster_size),
            Region("L1 table", self["l1_table_offset"], self["l1_size"] * 8),
            Region("refcount table", self["refcount_table_offset"], self["refcount_table_clusters"] * self.cluster_size),
            Region("snapshot table", self["snapshots_offset"], least),
        ]
        return [region for region in found if region.length]
