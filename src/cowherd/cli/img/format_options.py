"""The options of -o: those that each format knows, their parsing, the list of '-o help', and the line that `create` prints."""

from __future__ import annotations

from cowherd.cli.img.errors import CommandFailed
from cowherd.cli.img.sources import FOREIGN_FORMATS, is_driver
from cowherd.formats import registry
from cowherd.sizes import SizeError, SizeRangeError, parse_size
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TYPES = {"str": "str", "size": "size", "number": "num", "boolean": "bool (on/off)"}
_BOOLEANS = ("on", "yes", "true", "y", "off", "no", "false", "n")


class FormatOption(NamedTuple):
    """One option of a format: a "str", "size", "number" or "boolean". `create` prints `default` if the option is not given."""

    name: str
    type: str
    help: str
    default: str | None = None


_FILE_OPTIONS = (
    FormatOption("size", "size", "Virtual disk size"),
    FormatOption("nocow", "boolean", "Turn off copy-on-write (valid only on btrfs)"),
    FormatOption("preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)"),
    FormatOption("extent_size_hint", "size", "Extent size hint for the image file, 0 to disable"),
)
_RAW_OPTIONS = (FormatOption("size", "size", "Virtual disk size"),)
_QCOW2_OPTIONS = (
    FormatOption("encryption", "boolean", "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"),
    FormatOption("encrypt.format", "str", "Encrypt the image, format choices: 'aes', 'luks'"),
    FormatOption("encrypt.key-secret", "str", "ID of secret providing qcow AES key or LUKS passphrase"),
    FormatOption("encrypt.cipher-alg", "str", "Name of encryption cipher algorithm"),
    FormatOption("encrypt.cipher-mode", "str", "Name of encryption cipher mode"),
    FormatOption("encrypt.ivgen-alg", "str", "Name of IV generator algorithm"),
    FormatOption("encrypt.ivgen-hash-alg", "str", "Name of IV generator hash algorithm"),
    FormatOption("encrypt.hash-alg", "str", "Name of encryption hash algorithm"),
    FormatOption("encrypt.iter-time", "number", "Time to spend in PBKDF in milliseconds"),
    FormatOption("cluster_size", "size", "qcow2 cluster size", "65536"),
    FormatOption("extended_l2", "boolean", "Extended L2 tables", "off"),
    FormatOption("preallocation", "str", "Preallocation mode (allowed values: off, metadata, falloc, full)"),
    FormatOption("compression_type", "str", "Compression method used for image cluster compression", "zlib"),
    FormatOption("size", "size", "Virtual disk size"),
    FormatOption("compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])"),
    FormatOption("backing_file", "str", "File name of a base image"),
    FormatOption("backing_fmt", "str", "Image format of the base image"),
    FormatOption("data_file", "str", "File name of an external data file"),
    FormatOption("data_file_raw", "boolean", "The external data file must stay valid as a raw image"),
    FormatOption("lazy_refcounts", "boolean", "Postpone refcount updates", "off"),
    FormatOption("refcount_bits", "number", "Width of a reference count entry in bits", "16"),
)
_OF_FORMAT = {registry.RAW.name: _RAW_OPTIONS, registry.QCOW2.name: _QCOW2_OPTIONS}
_READ_ONLY_FORMATS = ("bochs", "cloop", "dmg")
_IGNORED = ("nocow", "extent_size_hint")
"""Hints to the host's file system that change nothing about the image."""
_CHOICES = {
    "compat": ("version", ("0.10", "v2", "1.1", "v3")),
    "compression_type": ("compression-type", ("zlib", "zstd")),
    "preallocation": ("preallocation", ("off", "metadata", "falloc", "full")),
}


def creatable(format: str, unknown: str = "Unknown file format '{}'") -> None:
    """Raises `CommandFailed` for a format in which no image can be made here."""
    if format in _READ_ONLY_FORMATS or (format in registry.FORMATS and not registry.named(format).creatable):
        raise CommandFailed(f"Format driver '{format}' does not support image creation")
    if format in FOREIGN_FORMATS:
        raise CommandFailed(f"Format '{format}' is not supported; use qemu-img for this image")
    if format not in _OF_FORMAT:
        raise CommandFailed(unknown.format(format))


def known(format: str) -> tuple[FormatOption, ...]:
    """Returns the options of `format` and of the file under it, in the order in which QEMU prints them."""
    own = _OF_FORMAT[format]
    names = {option.name for option in own}
    return (*own, *(option for option in _FILE_OPTIONS if option.name not in names))


def help_wanted(lists: Sequence[str]) -> bool:
    """Returns whether "help" or "?" is among the options as a flag."""
    return any(name in ("help", "?") and value is None for name, value in _items(lists))


def help_text(format: str, filename: str | None) -> str:
    """Returns the text of '-o help', with the options of the file under the image if there is a file name."""
    options = _OF_FORMAT[format] if filename is None else known(format)
    lines = sorted(_help_line(option) for option in options)
    if filename is not None:
        return "Supported options:\n" + "".join(lines)
    further = "\nThe protocol level may support further options.\nSpecify the target filename to include those options.\n"
    return f"Supported {format} options:\n" + "".join(lines) + further


def _help_line(option: FormatOption) -> str:
    return f"{f'  {option.name}=<{_TYPES[option.type]}>':<24} - {option.help}\n"


def parse(lists: Sequence[str], format: str) -> dict[str, str]:
    """Returns the given options, with numbers and sizes as plain decimals; the last of several with one name counts.

    Raises `CommandFailed` for a name that the format does not know, and a value that is not of its type.
    """
    options = {option.name: option for option in known(format)}
    found: dict[str, str] = {}
    for name, value in _items(lists):
        if value is None:
            name, value = (name[2:], "off") if name.startswith("no") else (name, "on")
        if name == "id":
            continue
        if name not in options:
            raise CommandFailed(f"Invalid parameter '{name}'")
        found[name] = _checked(options[name], value)
    return found


def _items(lists: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yields the (name, value) pairs; the value of a flag is None. A doubled comma in a value stands for one."""
    text = ",".join(lists)
    position = 0
    while position < len(text):
        end = min((index for index in (text.find("=", position), text.find(",", position)) if index >= 0), default=len(text))
        name = text[position:end]
        if text[end : end + 1] != "=":
            yield name, None
            position = end + 1
            continue
        value, position = _value(text, end + 1)
        yield name, value


def _value(text: str, start: int) -> tuple[str, int]:
    """Returns the value that begins at `start`, and where the next option begins."""
    parts: list[str] = []
    while True:
        comma = text.find(",", start)
        if comma < 0:
            return "".join(parts) + text[start:], len(text)
        parts.append(text[start:comma])
        if text[comma + 1 : comma + 2] != ",":
            return "".join(parts), comma + 1
        parts.append(",")
        start = comma + 2


def _checked(option: FormatOption, value: str) -> str:
    if option.type == "boolean" and value not in _BOOLEANS:
        raise CommandFailed(f"Parameter '{option.name}' expects 'on' or 'off'")
    if option.type == "size":
        return str(size_value(option.name, value))
    if option.type == "number":
        try:
            return str(int(value, 0))
        except ValueError as error:
            raise CommandFailed(f"Parameter '{option.name}' expects a number") from error
    return value


def size_value(name: str, value: str) -> int:
    """Returns the size given for the option `name`. Raises `CommandFailed` with QEMU's message for a wrong one."""
    try:
        return parse_size(value)
    except SizeRangeError as error:
        raise CommandFailed(f"Value '{value}' is out of range for parameter '{name}'") from error
    except SizeError as error:
        hint = "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.\n"
        raise CommandFailed(f"Parameter '{name}' expects a non-negative number below 2^64\n{hint[:-1]}") from error


def check(format: str, options: Mapping[str, str]) -> None:
    """Raises `CommandFailed` for faults that QEMU finds only when it makes the image, and for features that are missing here."""
    if "backing_fmt" in options and "backing_file" not in options:
        raise CommandFailed("Backing format cannot be used without backing file")
    _refuse_missing_features(options)
    if registry.named(format).verbatim:
        mode = options.get("preallocation", "off")
        if mode == "metadata":
            raise CommandFailed("Unsupported preallocation mode: metadata")
        if mode not in ("off", "falloc", "full"):
            raise CommandFailed(f"invalid parameter value: {mode}")
        return
    for name, (shown, choices) in _CHOICES.items():
        value = options.get(name, choices[0])
        if value not in choices:
            raise CommandFailed(f"Parameter '{shown}' does not accept value '{value}'")
    if "backing_fmt" in options and not is_driver(options["backing_fmt"]):
        raise CommandFailed(f"Parameter 'backing-fmt' does not accept value '{options['backing_fmt']}'")
    if int(options.get("refcount_bits", "16")) < 0:
        raise CommandFailed("Refcount width must be a power of two and may not exceed 64 bits")


def _refuse_missing_features(options: Mapping[str, str]) -> None:
    for name, value in options.items():
        if name.startswith("encrypt.") or (name == "encryption" and value in _BOOLEANS[:4]):
            raise CommandFailed("encryption is not supported; use qemu-img for this image")
        if name in ("data_file", "data_file_raw"):
            raise CommandFailed("an external data file is not supported; use qemu-img for this image")


def for_the_format(options: Mapping[str, str]) -> dict[str, str]:
    """Returns the options that are the format's own: no size, no backing file, no hints to the host."""
    elsewhere = ("size", "backing_file", "backing_fmt", "encryption", *_IGNORED)
    return {name: value for name, value in options.items() if name not in elsewhere}


def ignored(options: Mapping[str, str]) -> list[str]:
    """Returns the names of the options that are accepted and have no effect."""
    return [name for name in _IGNORED if name in options]


def shown(format: str, options: Mapping[str, str]) -> str:
    """Returns the options as `create` prints them: in the format's order, with defaults, commas in texts doubled."""
    words: list[str] = []
    for option in known(format):
        value = options.get(option.name, option.default)
        if value is not None:
            words.append(f"{option.name}={value.replace(',', ',,') if option.type == 'str' else value}")
    return " ".join(words)
