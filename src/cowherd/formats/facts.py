"""The facts that an image's header and tables state, found without opening it for reading or writing."""

from __future__ import annotations

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cowherd.formats.qcow2.bitmaps import Bitmap
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.formats.reference import BackingReference


class Qcow2Info(NamedTuple):
    """The facts that only qcow2 images have. `encryption` is None, "aes" or "luks".

    `data_file` is the external data file's name as stored; `data_file_raw` is None if there is no data file.
    """

    version: int
    compression: str
    lazy_refcounts: bool
    refcount_bits: int
    corrupt: bool
    extended_l2: bool
    bitmaps: tuple[Bitmap, ...]
    data_file: str | None
    data_file_raw: bool | None
    encryption: str | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd-img info --output=json` prints them under "format-specific"."""
        if self.version == 2:
            document: dict[str, Any] = {"compat": "0.10", "compression-type": "zlib", "refcount-bits": self.refcount_bits}
            return document | ({"encrypt": {"format": self.encryption}} if self.encryption else {})
        document = {"compat": "1.1", "compression-type": self.compression, "lazy-refcounts": self.lazy_refcounts}
        if self.bitmaps:
            document["bitmaps"] = [bitmap.to_json() for bitmap in self.bitmaps]
        document["refcount-bits"] = self.refcount_bits
        if self.data_file is not None:
            document["data-file"] = self.data_file
        if self.encryption:
            document["encrypt"] = {"format": self.encryption}
        if self.data_file_raw is not None:
            document["data-file-raw"] = self.data_file_raw
        return document | {"corrupt": self.corrupt, "extended-l2": self.extended_l2}


class Facts(NamedTuple):
    """The facts of one image. Sizes are bytes; `cluster_size` is None where the format has no clusters.

    `qcow2` holds the facts that only qcow2 images have; it is None for others.
    """

    virtual_size: int
    cluster_size: int | None = None
    dirty: bool = False
    backing: BackingReference | None = None
    snapshots: tuple[Snapshot, ...] = ()
    qcow2: Qcow2Info | None = None
