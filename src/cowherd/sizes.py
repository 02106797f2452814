"""Sizes as QEMU's tools read and print them (`qemu_strtosz` and `size_to_str` of QEMU's util/cutils.c)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Size: TypeAlias = int | str
    """A size as a caller gives it: bytes, or text as QEMU's tools read it, as in "20G"."""

SECTOR = 512
"""Bytes of a sector, the unit in which QEMU counts a disk: every virtual size is whole sectors."""

INT64_MAX = 2**63 - 1

DEFAULT_SPARSE_SIZE = 4096
"""Bytes of zeros in a row that a conversion turns into a hole; the default of qemu-img convert -S."""

_MOST_DIGITS = 1000  # far more than any size has, and few enough for int()
_PREFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_MULTIPLIERS = {suffix: 1 << 10 * power for power, suffix in enumerate("BKMGTPE")}


def whole_sectors(size: int) -> int:
    """Returns a size in bytes, rounded up to whole sectors, as QEMU counts a file that ends inside one."""
    return -(-size // SECTOR) * SECTOR


def size_in_bytes(size: Size) -> int:
    """Returns the bytes of a size that a caller of the API gave. Raises `InvalidRequest` for text that is no size."""
    if not isinstance(size, str):
        return size
    from cowherd.errors import InvalidRequest

    try:
        found = parse_size(size)
    except SizeError as error:
        raise InvalidRequest(f"{size!a} is no size; write it as in 512M or 20G") from error
    if found > INT64_MAX:
        raise InvalidRequest(f"{size!a} is too large")
    return found


class SizeError(ValueError):
    """A text is not a size."""


class SizeRangeError(SizeError):
    """A text is a size, but negative, or 2^64 bytes or more."""


def parse_size(text: str) -> int:
    """Returns the bytes that `text` means: decimal with an optional fraction and suffix (b, k, M, G, T, P, E), or 0x and hex.

    Raises `SizeRangeError` for a size outside 0..2^64-1 and `SizeError` for anything that is not a size.
    """
    body = text.lstrip(" \t\n\v\f\r")
    negative = body.startswith("-")
    if body[:1] in ("+", "-"):
        body = body[1:]
    value = _parse_hex(body) if body[:2] in ("0x", "0X") else _parse_decimal(body)
    if negative or value >= 2**64:
        raise SizeRangeError(text)
    return value


def _parse_hex(body: str) -> int:
    digits = body[2:]
    if not digits or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise SizeError(body)
    return int(digits, 16)


def _parse_decimal(body: str) -> int:
    suffix = body[-1:].upper()
    multiplier = _MULTIPLIERS.get(suffix)
    digits = body if multiplier is None else body[:-1]
    whole, _, fraction = digits.partition(".")
    if not (whole + fraction).isascii() or not (whole + fraction).isdigit():
        raise SizeError(body)
    if len(digits) > _MOST_DIGITS:
        raise SizeRangeError(body)
    scale: int = 10 ** len(fraction)
    value = int(whole + fraction) * (multiplier or 1)
    if value % scale and (multiplier or 1) == 1:
        raise SizeError(body)  # a fraction of a byte
    return (2 * value + scale) // (2 * scale)


def human_size(size: int) -> str:
    """Returns `size` bytes with three significant digits and a binary unit, as in "1.5 GiB"."""
    exponent = max(int(size / (1000 / 1024)).bit_length() - 1, 0) // 10
    return f"{size / (1 << 10 * exponent):.3g} {_PREFIXES[exponent]}B"
