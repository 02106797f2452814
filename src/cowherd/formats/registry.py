"""The formats, each once: how it is recognised, opened and locked, and what it can do.

What a format can do is asked here (`named(name).compressed`), so that no caller needs to know which formats there are; what
depends on an open image is asked of its layer (`cowherd.formats.layer.Layer`). To add a format, write a folder with its layer,
which derives from `ReadableLayer`, and one entry in `_BUILT_IN`; or, from outside of cowherd, call `add`. An entry loads what it
needs when it is called: commands that only look at headers are done before numpy is loaded.
"""

from __future__ import annotations

from cowherd.formats.facts import Facts
from cowherd.formats.outline import NeedsArrays, RawOutline
from cowherd.formats.rawfile import RawFile
from cowherd.storage.locks import INSPECT, READ, READ_RAW, RESIZE_RAW, WRITE
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cowherd.formats.layer import EditableHeader, Layer, LayerOutline
    from cowherd.formats.qcow2.check import CheckReport
    from cowherd.storage.hostfile import HostFile
    from cowherd.storage.locks import LockMode


class Locks(NamedTuple):
    """The locks with which an image at the top of a chain is used, as QEMU takes them; None takes none.

    The defaults are those of formats with tables, which a writer may leave half changed.
    """

    inspect: LockMode | None = INSPECT
    read: LockMode = READ
    write: LockMode = WRITE


def _needs_arrays(_file: HostFile, _compressed: bool) -> LayerOutline:
    raise NeedsArrays


def _any_options(_options: Mapping[str, str]) -> None:
    """Options that a format does not look at itself: whoever makes the image does."""


def _cannot_tell(_file: HostFile) -> bool:
    return False


class Format(NamedTuple):
    """A format of image files. What takes a file leaves it open if it raises: `HostFileError`, or what breaks the format."""

    name: str

    recognise: Callable[[bytes], bool]
    """Whether a file whose first `cowherd.formats.probe.PROBED_BYTES` bytes are these is an image of this format."""

    open: Callable[[HostFile], Layer]
    """Makes an open and locked file a layer, which takes it over."""

    outline: Callable[[HostFile, bool], LayerOutline] = _needs_arrays
    """Makes it an outline, that tells compressed clusters if asked to. Raises `NeedsArrays` for all but the plainest images."""

    read_facts: Callable[[HostFile], Facts] | None = None
    """Reads the facts of an image; None asks its layer for them."""

    header: Callable[[HostFile], EditableHeader] | None = None
    """Gives the header of a plain image to change it alone, None where a format has no such thing. Raises `NeedsArrays`."""

    check: Callable[[HostFile], CheckReport] | None = None
    """Checks an image's tables against each other, None where a format has none."""

    check_options: Callable[[Mapping[str, str]], None] = _any_options
    """Raises `InvalidRequest` for options of `qemu-img create -o` with which no image can be made."""

    holds_nothing: Callable[[HostFile], bool] = _cannot_tell
    """Whether an image has no data of its own, neither now nor in a snapshot; False where that can't be told."""

    is_opaque: Callable[[HostFile], bool] | None = None
    """Whether an image's content can't be read here although its format is known, being encrypted; None: it always can."""

    locks: Locks = Locks()

    verbatim: bool = False
    """The file's bytes are the guest's bytes."""

    writable: bool = False
    """Images can be written to, and change their size."""

    creatable: bool = False
    """New images can be made."""

    backing: bool = False
    """An image may name a backing file."""

    compressed: bool = False
    """Clusters can be written compressed."""

    snapshots: bool = False
    """An image may hold internal snapshots."""

    bitmaps: bool = False
    """An image may hold persistent bitmaps."""

    extensions: bool = False
    """The header has room for what others want to record in it: for a binding."""

    @property
    def is_known(self) -> bool:
        """Whether images of this format can be opened here."""
        return self.name in FORMATS

    def facts(self, file: HostFile) -> Facts:
        """Returns what an image says of itself. The file stays the caller's."""
        if self.read_facts is not None:
            return self.read_facts(file)
        layer = self.open(file)
        return Facts(layer.size, layer.cluster_size if layer.cluster_size > 1 else None, backing=layer.backing)


FORMATS: dict[str, Format] = {}
"""The known formats by name. The first one is that of a file whose bytes say nothing."""


def add(format: Format) -> None:
    """Makes a format known, in the place of another one of its name."""
    FORMATS[format.name] = format


def named(name: str) -> Format:
    """Returns the format called `name`; one that is not known can do nothing, and refuses to open a file.

    QEMU has more formats than cowherd: images of those are met in herds and on command lines.
    """
    return FORMATS.get(name) or Format(name, _never, _not_there)


def _never(_head: bytes) -> bool:
    return False


def _not_there(file: HostFile) -> Layer:
    raise AssertionError(f"{file.name} is of a format that is not known")


def _open_raw(file: HostFile) -> Layer:
    from cowherd.formats.raw import Raw

    return Raw(file)


_QCOW = b"QFI\xfb\0\0\0\x01"
"""What qcow images begin with: the magic number of qcow2, and a version that counts as another format."""
_CRYPT_METHOD = slice(32, 36)
"""Where the qcow2 header says how the image is encrypted, 0 if it is not."""


def _is_qcow2(head: bytes) -> bool:
    return head.startswith(_QCOW[:4]) and not head.startswith(_QCOW)


def _open_qcow2(file: HostFile) -> Layer:
    from cowherd.formats.qcow2.image import Qcow2

    return Qcow2(file)


def _outline_qcow2(file: HostFile, compressed: bool) -> LayerOutline:
    from cowherd.formats.qcow2.outline import TableOutline

    return TableOutline(file, compressed=compressed)


def _facts_of_qcow2(file: HostFile) -> Facts:
    from cowherd.formats.qcow2.facts import read_facts

    return read_facts(file)


def _header_of_qcow2(file: HostFile) -> EditableHeader:
    from cowherd.formats.qcow2.plain_header import PlainHeader

    return PlainHeader(file)


def _qcow2_holds_nothing(file: HostFile) -> bool:
    from cowherd.formats.qcow2.emptiness import holds_nothing

    return holds_nothing(file)


def _is_opaque_qcow2(file: HostFile) -> bool:
    head = file.pread(0, _CRYPT_METHOD.stop)
    return head.startswith(_QCOW) or head[_CRYPT_METHOD] != bytes(4)


def _check_qcow2_options(options: Mapping[str, str]) -> None:
    from cowherd.formats.qcow2.options import Qcow2Options

    Qcow2Options.from_mapping(options)


def _check_qcow2(file: HostFile) -> CheckReport:
    from cowherd.formats.qcow2.check import check
    from cowherd.formats.qcow2.header import read_header

    return check(file, read_header(file))


RAW = Format(
    "raw",
    _never,
    _open_raw,
    outline=lambda file, _compressed: RawOutline(file),
    read_facts=lambda file: Facts(RawFile(file).size),
    holds_nothing=lambda file: not file.is_block_device and file.next_data(0) is None,
    locks=Locks(
        inspect=None,  # QEMU looks at a raw image without minding its writers
        read=READ_RAW,
        write=RESIZE_RAW,
    ),
    verbatim=True,
    writable=True,
    creatable=True,
)

QCOW2 = Format(
    "qcow2",
    _is_qcow2,
    _open_qcow2,
    outline=_outline_qcow2,
    read_facts=_facts_of_qcow2,
    header=_header_of_qcow2,
    check=_check_qcow2,
    check_options=_check_qcow2_options,
    holds_nothing=_qcow2_holds_nothing,
    is_opaque=_is_opaque_qcow2,
    writable=True,
    creatable=True,
    backing=True,
    compressed=True,
    snapshots=True,
    bitmaps=True,
    extensions=True,
)

_BUILT_IN = (RAW, QCOW2)

for _format in _BUILT_IN:
    add(_format)

UNRECOGNISED = RAW.name
"""The format of a file whose bytes say nothing."""

NEW_TARGET = RAW.name
"""The format of a new image where nobody names one, as with qemu-img."""

OVERLAY = QCOW2.name
"""The format of overlays: of those that cowherd makes, and of those by whose headers a herd is known."""
