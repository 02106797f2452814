"""Recognises files that are no disks: an archive, a compressed file, a page that a server sent instead of an image.

QEMU takes each of them for a raw disk, on which a guest finds nothing to boot. No name and no reference is ever followed.
"""

from __future__ import annotations

ENOUGH_BYTES = 512
"""Bytes of a file's start that are examined."""

_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", "gzip-compressed data"),
    (0, b"\xfd7zXZ\0", "xz-compressed data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed data"),
    (0, b"\x89LZO\0\r\n\x1a\n", "lzop-compressed data"),
    (0, b"LZIP\x01", "lzip-compressed data"),
    (0, b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff", "lzma-compressed data"),
    (0, b"\x1f\x9d", "data compressed with compress"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (0, b"MSCF\0\0\0\0", "a cabinet archive"),
    (0, b"MSWIM\0\0\0", "a WIM archive"),
    (0, b"!<arch>\n", "an ar archive"),
    (0, b"070701", "a cpio archive"),
    (0, b"\xed\xab\xee\xdb", "an rpm package"),
    (0, b"VMA\0", "a Proxmox backup archive"),
    (0, b"EVF\x09\x0d\x0a\xff\0", "an EnCase image"),
    (0, b"\x3a\xff\x26\xed", "an Android sparse image"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, without the file that it stands for"),
    (257, b"ustar", "a tar archive"),
)
_BZIP2_BLOCKS = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
_BLANKS = b" \t\r\n"
_MARKUP = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"),
    (b"<svg", "an XML document"),
)
_WRITTEN = bytes(byte for byte in range(256) if byte >= 0x20 or byte in b"\t\n\r\f\x1b")
_SHORTEST_TEXT, _LONGEST_TEXT = 8, 64 << 10


def foreign_content(head: bytes, size: int | None = None) -> str | None:
    """Says in words what a file is instead of a disk, from its first 512 bytes (all, if it is shorter); None if they don't tell.

    `size` is the file's length in bytes; while it is not known (None), only texts that end within `head` are recognised. Content
    that a guest may write to a disk's start (partitions, file systems, volumes, an ISO) counts as a disk.
    """
    head = head[:ENOUGH_BYTES]
    found = next((what for offset, mark, what in _MARKS if head.startswith(mark, offset)), None)
    if found is None and head.startswith(b"BZh") and head.startswith(_BZIP2_BLOCKS, 4):
        found = "bzip2-compressed data"
    return found or _kind_of_text(head, len(head) if len(head) < ENOUGH_BYTES else size)


def ends_as_fixed_vhd(tail: bytes) -> bool:
    """Returns whether `tail`, the last bytes of a file, ends with the footer of a fixed VHD, which QEMU takes for a raw disk."""
    return tail[-512:].startswith(b"conectix")


def _kind_of_text(head: bytes, size: int | None) -> str | None:
    """Says what a text is, None if it may be a disk. A disk may begin with letters too, so plain text counts only if it is short
    and not of whole sectors."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANKS)
    lower = start[:64].lower()
    for mark, what in _MARKUP:
        if lower.startswith(mark):
            return what
    if not start or not _is_text(head):
        return None
    if start[:1] in (b"{", b"[") and start[1:].lstrip(_BLANKS)[:1] in (b'"', b"{", b"}", b"]"):
        return "a JSON document"
    return "a text" if size is not None and _SHORTEST_TEXT <= size < _LONGEST_TEXT and size % 512 else None


def _is_text(data: bytes) -> bool:
    return not data.translate(None, _WRITTEN)
