"""The formats. One entry for each says how to recognise, open and lock its images, and what the format can do.

Callers ask an entry what its format can do (`named(name).compressed`), so that none needs to know which formats there are; they
ask the layer (`cowherd.formats.layer.Layer`) what depends on an open image. To add a format, write a folder with its layer, which
derives from `cowherd.formats.readable.ReadableLayer`, and one entry here; or, from outside of cowherd, call `add`. An entry
imports what it needs when it is called, so that commands that only look at headers finish without numpy.
"""

from __future__ import annotations

from cowherd.storage.locks import INSPECT, READ, READ_RAW, RESIZE_RAW, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cowherd.formats.facts import Facts
    from cowherd.formats.layer import EditableHeader, Layer, LayerOutline
    from cowherd.formats.qcow2.report import CheckReport
    from cowherd.storage.blocks import BlockFile
    from cowherd.storage.locks import LockMode


class Format:
    """A format of image files. By default it has tables, can only be read, and only `open` opens it.

    The lock modes are those that QEMU takes on an image at the top of a chain, one for each use; images under it are read with
    `READ`. Methods that take a file leave it to the caller if they raise. They raise `HostFileError`, or an error for a
    file that breaks the format.
    """

    name: str
    lock_to_inspect: LockMode | None = INSPECT
    lock_to_read: LockMode = READ
    lock_to_write: LockMode = WRITE

    verbatim = False
    """The file's bytes are the guest's bytes."""

    writable = False
    """Images can be written to, and change their size."""

    creatable = False
    """New images can be made."""

    backing = False
    """An image may name a backing file."""

    compressed = False
    """Clusters can be written compressed."""

    bitmaps = False
    """An image may hold persistent bitmaps."""

    extensions = False
    """The header has room for a record of others: for a binding."""

    checked = False
    """An image has tables that `check` compares with each other."""

    encrypted = False
    """An image's content may be encrypted, so that it can't be read here."""

    @property
    def is_known(self) -> bool:
        """Whether images of this format can be opened here."""
        return self.name in FORMATS

    def recognise(self, head: bytes) -> bool:
        """Whether a file whose first `cowherd.formats.probe.PROBED_BYTES` bytes are `head` is an image of this format."""
        return False

    def open(self, file: BlockFile) -> Layer:
        """Makes a layer of an open and locked file; the layer takes the file over."""
        raise AssertionError(f"{file.name} is of a format that is not known")

    def outline(self, file: BlockFile) -> LayerOutline:
        """Makes an outline of an open and locked file. Raises `NeedsArrays` unless the image is plain."""
        from cowherd.formats.outline import NeedsArrays

        raise NeedsArrays

    def facts(self, file: BlockFile) -> Facts:
        """Returns the facts of an image. The caller keeps the file."""
        from cowherd.formats.facts import Facts

        layer = self.open(file)
        return Facts(layer.size, layer.cluster_size if layer.cluster_size > 1 else None, backing=layer.backing)

    def header(self, file: BlockFile) -> EditableHeader:
        """Makes a header to change of an open and locked file. Raises `NeedsArrays` if a change must open the whole image."""
        from cowherd.formats.outline import NeedsArrays

        raise NeedsArrays

    def check(self, file: BlockFile) -> CheckReport:
        """Checks an image's tables; only for formats that are `checked`."""
        raise AssertionError(f"{self.name} images have no tables to check")

    def check_options(self, options: Mapping[str, str]) -> None:
        """Raises `InvalidRequest` for options of `qemu-img create -o` that are known to make no image."""

    def holds_nothing(self, file: BlockFile) -> bool:
        """Whether an image has no data of its own, neither now nor in a snapshot; False if the format can't tell."""
        return False

    def is_encrypted(self, file: BlockFile) -> bool:
        """Whether an image's content can't be read here though its format is known; only for formats that may be `encrypted`."""
        return False


class _Raw(Format):
    name = "raw"
    lock_to_inspect = None  # QEMU inspects a raw image even while others write to it
    lock_to_read = READ_RAW
    lock_to_write = RESIZE_RAW
    verbatim = writable = creatable = True

    def open(self, file: BlockFile) -> Layer:
        from cowherd.formats.raw import Raw

        return Raw(file)

    def outline(self, file: BlockFile) -> LayerOutline:
        from cowherd.formats.outline import RawOutline

        return RawOutline(file)

    def facts(self, file: BlockFile) -> Facts:
        from cowherd.formats.facts import Facts
        from cowherd.formats.rawfile import RawFile

        return Facts(RawFile(file).size)

    def holds_nothing(self, file: BlockFile) -> bool:
        return not file.is_block_device and file.next_data(0) is None


_QCOW = b"QFI\xfb\0\0\0\x01"
"""qcow images begin with these bytes: the magic number of qcow2, and a version that counts as another format."""
_CRYPT_METHOD = slice(32, 36)
"""The field of the qcow2 header that says how the image is encrypted, 0 if it is not."""


class _Qcow2(Format):
    name = "qcow2"
    writable = creatable = backing = compressed = bitmaps = extensions = checked = encrypted = True

    def recognise(self, head: bytes) -> bool:
        return head.startswith(_QCOW[:4]) and not head.startswith(_QCOW)

    def open(self, file: BlockFile) -> Layer:
        from cowherd.formats.qcow2.image import Qcow2

        return Qcow2(file)

    def outline(self, file: BlockFile) -> LayerOutline:
        from cowherd.formats.qcow2.outline import TableOutline

        return TableOutline(file)

    def facts(self, file: BlockFile) -> Facts:
        from cowherd.formats.qcow2.facts import read_facts

        return read_facts(file)

    def header(self, file: BlockFile) -> EditableHeader:
        from cowherd.formats.qcow2.plain_header import PlainHeader

        return PlainHeader(file)

    def check(self, file: BlockFile) -> CheckReport:
        from cowherd.formats.outline import NeedsArrays
        from cowherd.formats.qcow2.header import read_header
        from cowherd.formats.qcow2.soundness import sound_report

        header = read_header(file)
        try:
            return sound_report(file, header)
        except NeedsArrays:
            from cowherd.formats.qcow2.check import check

            return check(file, header)

    def check_options(self, options: Mapping[str, str]) -> None:
        from cowherd.formats.qcow2.options import Qcow2Options

        Qcow2Options.from_mapping(options)

    def holds_nothing(self, file: BlockFile) -> bool:
        from cowherd.formats.qcow2.emptiness import holds_nothing

        return holds_nothing(file)

    def is_encrypted(self, file: BlockFile) -> bool:
        head = file.pread(0, _CRYPT_METHOD.stop)
        return head.startswith(_QCOW) or head[_CRYPT_METHOD] != bytes(4)


class _Foreign(Format):
    """A format that cowherd does not open: one of QEMU's, or one that does not exist."""

    def __init__(self, name: str):
        self.name = name


FORMATS: dict[str, Format] = {}
"""The known formats by name."""


def add(format: Format) -> None:
    """Adds a format, in place of another one of its name."""
    FORMATS[format.name] = format


def named(name: str) -> Format:
    """Returns the format called `name`; an unknown one can do nothing.

    QEMU has more formats than cowherd: herds and command lines may contain their images.
    """
    return FORMATS.get(name) or _Foreign(name)


RAW, QCOW2 = _Raw(), _Qcow2()
for _built_in in (RAW, QCOW2):
    add(_built_in)

UNRECOGNISED = RAW.name
"""The format of a file whose bytes indicate none."""

NEW_TARGET = RAW.name
"""The format of a new image if nobody names one, as in qemu-img."""

OVERLAY = QCOW2.name
"""The format of overlays: of those that cowherd makes, and of those whose headers show what a herd is."""
