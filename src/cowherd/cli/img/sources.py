"""The names of images on the command line: a file name, file:NAME, json:{...}, or --image-opts."""

from __future__ import annotations

from cowherd.cli.img.common import FORCE_SHARE, FORMAT, IMAGE_OPTS, OBJECT
from cowherd.cli.img.errors import CannotOpen, CommandFailed
from cowherd.formats import registry
from cowherd.tuples import NamedTuple
from cowherd.urls import Url, is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cowherd.cli.img.options import Arguments

_FOREIGN = (
    "blkdebug blklogwrites blkverify bochs cloop compress copy-before-write copy-on-read dmg file ftp ftps gluster "
    "host_cdrom host_device http https iscsi iser luks nbd nfs null-aio null-co nvme parallels preallocate qcow qed quorum "
    "rbd replication snapshot-access ssh throttle vdi vhdx vmdk vpc vvfat"
)
FOREIGN_FORMATS = frozenset(_FOREIGN.split())
"""Drivers that QEMU has and cowherd does not."""

_FILE_DRIVERS = ("file", "host_device")
_HARMLESS = ("read-only", "cache.direct", "cache.no-flush", "discard", "detect-zeroes", "locking", "aio")

SOURCE_OPTIONS = (FORMAT, IMAGE_OPTS, FORCE_SHARE, OBJECT)
"""The options of every command that opens one existing image to read it."""


class Source(NamedTuple):
    """An image to open: the `text` that the user typed, the file's `path`, the `format` (None: guessed from its first bytes)."""

    text: str
    path: str
    format: str | None


class SourceToRead(NamedTuple):
    """An image that is only read: like `Source`, but it may lie on a server. Then `text` is its address without secrets."""

    text: str
    path: str | Url
    format: str | None


def source_to_read(
    arguments: Arguments, text: str, format_key: str = "format", *, image_opts: bool | None = None
) -> SourceToRead:
    """Returns the image that the operand `text` names: one that `source` returns, or one to read over HTTP."""
    described = arguments.flag("image-opts") if image_opts is None else image_opts
    if described or not is_address(text):
        return SourceToRead(*source(arguments, text, format_key, image_opts=image_opts))
    chosen = arguments.text(format_key)
    check_driver(shown_name(text), chosen)
    return SourceToRead(shown_name(text), Url(text), chosen)


def shown_name(text: str) -> str:
    """Returns the name of an image in a form that may be printed: an address without its secrets."""
    return str(Url(text)) if is_address(text) else text


def source(arguments: Arguments, text: str, format_key: str = "format", *, image_opts: bool | None = None) -> Source:
    """Returns the image that the operand `text` names, with the format and --image-opts (unless given) of `arguments`.

    Raises `CommandFailed`, in qemu-img's words, for a name that qemu-img would not open either, and for one that only QEMU opens.
    """
    chosen = arguments.text(format_key)
    if arguments.flag("image-opts") if image_opts is None else image_opts:
        if chosen is not None:
            raise CommandFailed("--image-opts and --format are mutually exclusive")
        return _described(text, _parse_image_opts(text))
    if is_address(text):
        raise CannotOpen(shown_name(text), "an image can be read over HTTP, and not be written to")
    return named(text, chosen)


def named(text: str, chosen: str | None) -> Source:
    """Returns the image called `text`, of the format `chosen` if that is not None."""
    if text.startswith("json:"):
        found = _described(text, _parse_json(text))
        return found if chosen is None else Source(text, found.path, chosen)
    check_driver(text, chosen)
    return Source(text, _path(text), chosen)


def is_driver(name: str) -> bool:
    """Whether QEMU has a driver of this name, whether cowherd has it or not."""
    return name in registry.FORMATS or name in FOREIGN_FORMATS


def check_driver(text: str, driver: str | None) -> None:
    """Raises `CommandFailed`, about the image `text`, if its format `driver` is one that cowherd does not have."""
    if driver in FOREIGN_FORMATS:
        raise CannotOpen(text, f"Driver '{driver}' is not supported; use qemu-img for this image")
    if driver is not None and driver not in registry.FORMATS:
        raise CannotOpen(text, f"Unknown driver '{driver}'")


def _path(text: str) -> str:
    if text.startswith("file:"):
        return text.removeprefix("file:")
    protocol, colon, _ = text.partition(":")
    if colon and "/" not in protocol:
        problem = f"Unknown protocol '{protocol}'"
        if protocol.split("+")[0] in FOREIGN_FORMATS:
            problem = f"Protocol '{protocol}' is not supported; use qemu-img for this image"
        raise CannotOpen(shown_name(text), problem)
    if not text:
        raise CannotOpen(text, "The 'file' block driver requires a file name")
    return text


def _parse_image_opts(text: str) -> dict[str, str]:
    """Splits driver=qcow2,file.filename=x; a doubled comma stands for one comma. The first word may leave out "file="."""
    found: dict[str, str] = {}
    for index, item in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = item.replace("\0", ",").partition("=")
        if not equals:
            key, value = ("file", key) if index == 0 else (key, "on")
        found[key] = value
    return found


def _parse_json(text: str) -> dict[str, str]:
    import json

    try:
        document = json.loads(text.removeprefix("json:"))
    except (ValueError, RecursionError) as error:
        raise CannotOpen(text, f"Could not parse the JSON options: {error}") from error
    if not isinstance(document, dict):
        raise CannotOpen(text, "Invalid JSON object given")
    return dict(_flattened(document, ""))


def _flattened(document: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in document.items():
        pairs += _flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, str(value))]
    return pairs


def _described(text: str, options: dict[str, str]) -> Source:
    def fail(problem: str) -> CannotOpen:
        return CannotOpen(text, problem)

    driver, protocol, path = options.pop("driver", None), options.pop("file.driver", "file"), options.pop("file.filename", None)
    node = options.pop("file", None)
    if node is not None:
        raise fail(f"Cannot find device='{node}' nor node-name='{node}'")
    if driver in _FILE_DRIVERS and path is None:
        driver, path = registry.RAW.name, options.pop("filename", None)
    if driver is None and path is None:
        raise fail("Must specify either driver or file")
    if path is None:
        raise fail('A block device must be specified for "file"')
    check_driver(text, driver)
    if protocol not in _FILE_DRIVERS:
        raise fail(f"Driver '{protocol}' is not supported; use qemu-img for this image")
    unknown = [key for key in options if key.removeprefix("file.") not in _HARMLESS]
    if unknown:
        raise fail(f"Option '{unknown[0]}' is not supported; use qemu-img for this image")
    return Source(text, _path(path), driver)
