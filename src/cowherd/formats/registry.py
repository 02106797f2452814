"""The formats, each once: how it is recognised, opened and locked, and what it can do.

What a format can do is asked here (`named(name).compressed`), so that no caller needs to know which formats there are; what
depends on an open image is asked of its layer (`cowherd.formats.layer.Layer`). To add a format, write a folder with its layer,
which derives from `cowherd.formats.readable.ReadableLayer`, and one entry here; or, from outside of cowherd, call `add`. An entry
loads what it needs when it is called: commands that only look at headers are done before numpy is loaded.
"""

from __future__ import annotations

from cowherd.storage.locks import INSPECT, READ, READ_RAW, RESIZE_RAW, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cowherd.formats.facts import Facts
    from cowherd.formats.layer import EditableHeader, Layer, LayerOutline
    from cowherd.formats.qcow2.check import CheckReport
    from cowherd.storage.blocks import BlockFile
    from cowherd.storage.locks import LockMode


class Format:
    """A format of image files. One that says nothing of itself has tables, can only be read, and is opened by `open` alone.

    The lock modes are those of an image at the top of a chain, by what is done with it, as QEMU takes them; what lies under it is
    read with `READ`. Methods that take a file leave it to the caller if they raise: `HostFileError`, or what breaks the format.
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
    """The header has room for what others want to record in it: for a binding."""

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
        """Makes an open and locked file a layer, which takes it over."""
        raise AssertionError(f"{file.name} is of a format that is not known")

    def outline(self, file: BlockFile) -> LayerOutline:
        """Makes it an outline. Raises `NeedsArrays` for all but plain images."""
        from cowherd.formats.outline import NeedsArrays

        raise NeedsArrays

    def facts(self, file: BlockFile) -> Facts:
        """Returns what an image says of itself. The file stays the caller's."""
        from cowherd.formats.facts import Facts

        layer = self.open(file)
        return Facts(layer.size, layer.cluster_size if layer.cluster_size > 1 else None, backing=layer.backing)

    def header(self, file: BlockFile) -> EditableHeader:
        """Makes it a header that can be changed alone. Raises `NeedsArrays` where the whole image has to be opened for that."""
        from cowherd.formats.outline import NeedsArrays

        raise NeedsArrays

    def check(self, file: BlockFile) -> CheckReport:
        """Checks an image's tables; only for formats that are `checked`."""
        raise AssertionError(f"{self.name} images have no tables to check")

    def check_options(self, options: Mapping[str, str]) -> None:
        """Raises `InvalidRequest` for options of `qemu-img create -o` with which it is known that no image can be made."""

    def holds_nothing(self, file: BlockFile) -> bool:
        """Whether an image has no data of its own, neither now nor in a snapshot; False where that can't be told."""
        return False

    def is_encrypted(self, file: BlockFile) -> bool:
        """Whether an image's content can't be read here though its format is known; only for formats that may be `encrypted`."""
        return False


class _Raw(Format):
    name = "raw"
    lock_to_inspect = None  # QEMU looks at a raw image without minding its writers
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
"""What qcow images begin with: the magic number of qcow2, and a version that counts as another format."""
_CRYPT_METHOD = slice(32, 36)
"""Where the qcow2 header says how the image is encrypted, 0 if it is not."""


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
        from cowherd.formats.qcow2.check import check
        from cowherd.formats.qcow2.header import read_header

        return check(file, read_header(file))

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
    """A format of QEMU's, or of nobody's, that cowherd does not open."""

    def __init__(self, name: str):
        self.name = name


FORMATS: dict[str, Format] = {}
"""The known formats by name."""


def add(format: Format) -> None:
    """Makes a format known, in the place of another one of its name."""
    FORMATS[format.name] = format


def named(name: str) -> Format:
    """Returns the format called `name`; one that is not known can do nothing.

    QEMU has more formats than cowherd: images of those are met in herds and on command lines.
    """
    return FORMATS.get(name) or _Foreign(name)


RAW, QCOW2 = _Raw(), _Qcow2()
for _built_in in (RAW, QCOW2):
    add(_built_in)

UNRECOGNISED = RAW.name
"""The format of a file whose bytes say nothing."""

NEW_TARGET = RAW.name
"""The format of a new image where nobody names one, as with qemu-img."""

OVERLAY = QCOW2.name
"""The format of overlays: of those that cowherd makes, and of those by whose headers a herd is known."""
