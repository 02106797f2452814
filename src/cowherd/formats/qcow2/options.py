"""The options of a new qcow2 image, with the names, values and error texts of `qemu-img create -o`."""

from __future__ import annotations

from cowherd.errors import InvalidRequest
from cowherd.formats.qcow2 import layout
from cowherd.sizes import SizeError, parse_size
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

PREALLOCATIONS = ("off", "metadata", "falloc", "full")
_VERSIONS = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}
_BOOLEANS = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}


class _Choices(NamedTuple):
    version: int = 3
    cluster_size: int = 65536
    extended_l2: bool = False
    refcount_bits: int = 16
    lazy_refcounts: bool = False
    compression: str = "zlib"
    preallocation: str = "off"


class Qcow2Options(_Choices):
    """The format's choices for a new image. `cluster_size` is in bytes, `refcount_bits` is the width of a refcount.

    Raises `InvalidRequest` for a combination that the format does not have.
    """

    __slots__ = ()

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """Takes the fields by place or by name."""
        choices = super().__new__(cls, *values, **named)
        choices._check()
        return choices

    def _check(self) -> None:
        if self.version not in (2, 3):
            raise InvalidRequest(f"qcow2 version {self.version} does not exist")
        size = self.cluster_size
        low, high = 1 << layout.MIN_CLUSTER_BITS, 1 << layout.MAX_CLUSTER_BITS
        if not low <= size <= high or size & (size - 1):
            raise InvalidRequest(f"Cluster size must be a power of two between {low} and {high >> 10}k")
        if self.extended_l2 and size < 1 << layout.MIN_EXTENDED_L2_CLUSTER_BITS:
            smallest = 1 << layout.MIN_EXTENDED_L2_CLUSTER_BITS
            raise InvalidRequest(f"Extended L2 entries are only supported with cluster sizes of at least {smallest} bytes")
        if not 1 <= self.refcount_bits <= 64 or self.refcount_bits & (self.refcount_bits - 1):
            raise InvalidRequest("Refcount width must be a power of two and may not exceed 64 bits")
        if self.compression not in layout.COMPRESSION_NAMES:
            raise InvalidRequest(f"Invalid parameter '{printable(self.compression)}'")
        if self.preallocation not in PREALLOCATIONS:
            raise InvalidRequest(f"Invalid parameter '{printable(self.preallocation)}'")
        if self.version == 2:
            self._check_version_2()

    def _check_version_2(self) -> None:
        level = "compatibility level 1.1 and above (use version=v3 or greater)"
        if self.extended_l2:
            raise InvalidRequest(f"Extended L2 entries are only supported with {level}")
        if self.lazy_refcounts:
            raise InvalidRequest(f"Lazy refcounts only supported with {level}")
        if self.refcount_bits != 16:
            raise InvalidRequest(
                "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)"
            )
        if self.compression != "zlib":
            raise InvalidRequest(f"Non-zlib compression type is only supported with {level}")

    @property
    def cluster_bits(self) -> int:
        """log2 of the cluster size."""
        return self.cluster_size.bit_length() - 1

    @property
    def incompatible(self) -> int:
        """The incompatible feature bits that these choices need."""
        extended = layout.INCOMPATIBLE_EXTENDED_L2 if self.extended_l2 else 0
        return extended | (layout.INCOMPATIBLE_COMPRESSION if self.compression != "zlib" else 0)

    @classmethod
    def from_mapping(cls, options: Mapping[str, str]) -> Qcow2Options:
        """Returns the choices that `qemu-img create -o` would make of these names and values.

        Raises `InvalidRequest` for an unknown name or a value out of range. `size` and the backing file's names are unknown
        here, too: they are not the format's.
        """
        chosen: dict[str, Any] = {}
        for name, text in options.items():
            if name in _REFUSED:
                raise InvalidRequest(f"{_REFUSED[name]} is not supported; use qemu-img for this image")
            if name not in _READERS:
                raise InvalidRequest(f"Invalid parameter '{printable(name)}'")
            field, read = _READERS[name]
            chosen[field] = read(name, text)
        return cls(**chosen)


def _version(name: str, text: str) -> int:
    if text not in _VERSIONS:
        raise InvalidRequest(f"Invalid parameter '{printable(text)}'")
    return _VERSIONS[text]


def _size(name: str, text: str) -> int:
    try:
        return parse_size(text)
    except SizeError as error:
        raise InvalidRequest(f"Parameter '{name}' expects a non-negative number below 2^64") from error


def _boolean(name: str, text: str) -> bool:
    if text not in _BOOLEANS:
        raise InvalidRequest(f"Parameter '{name}' expects 'on' or 'off'")
    return _BOOLEANS[text]


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise InvalidRequest(f"Parameter '{name}' expects a number")
    return int(text)


def _word(name: str, text: str) -> str:
    return text


_READERS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "compat": ("version", _version),
    "cluster_size": ("cluster_size", _size),
    "extended_l2": ("extended_l2", _boolean),
    "refcount_bits": ("refcount_bits", _number),
    "lazy_refcounts": ("lazy_refcounts", _boolean),
    "compression_type": ("compression", _word),
    "preallocation": ("preallocation", _word),
}
_REFUSED = {
    "data_file": "an external data file",
    "data_file_raw": "an external data file",
    "encryption": "encryption",
    "encrypt.format": "encryption",
    "encrypt.key-secret": "encryption",
}
