"""Files of a volume as The Sleuth Kit lists them (pytsk3), with every attribute's place on the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytsk3

from cowherd.guest.chart import DIRECTORY, FILE, NO_RUNS, OTHER, FileEntry
from cowherd.guest.source import Malformed, Volume

_STEP = 1 << 20
_DATA = {int(pytsk3.TSK_FS_ATTR_TYPE_NTFS_DATA), int(pytsk3.TSK_FS_ATTR_TYPE_DEFAULT)}
_NOT_ON_DISK = int(pytsk3.TSK_FS_ATTR_RUN_FLAG_SPARSE) | int(pytsk3.TSK_FS_ATTR_RUN_FLAG_FILLER)
_NOT_NAMED = {int(pytsk3.TSK_FS_NAME_TYPE_VIRT), int(pytsk3.TSK_FS_NAME_TYPE_VIRT_DIR), int(pytsk3.TSK_FS_NAME_TYPE_UNDEF)}
"""Names that are on no disk: what The Sleuth Kit adds itself, and what it finds in the unused rest of directories."""
_NOT_PLAIN = int(pytsk3.TSK_FS_ATTR_COMP) | int(pytsk3.TSK_FS_ATTR_ENC) | int(pytsk3.TSK_FS_ATTR_RES)


@dataclass(frozen=True)
class Attribute:
    """One attribute of a file. `runs` are (offset in it, byte of the volume, length) of whole clusters: not cut at its `size`."""

    kind: int
    name: str
    size: int
    plain: bool
    runs: list[tuple[int, int, int]]

    @property
    def is_content(self) -> bool:
        """Whether it is the file's content, or a named stream beside that."""
        return self.kind in _DATA


@dataclass(frozen=True)
class Listed:
    """A path with its attributes; `file` is The Sleuth Kit's own object, which reads them."""

    path: str
    number: int
    is_directory: bool
    in_use: bool
    attributes: list[Attribute]
    file: Any


class _Image(pytsk3.Img_Info):  # type: ignore[misc]
    """A volume in the form that The Sleuth Kit reads."""

    def __init__(self, volume: Volume):
        self._volume = volume
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, length: int) -> bytes:
        """Returns bytes of the volume, fewer at its end."""
        length = max(0, min(length, self._volume.size - offset))
        return self._volume.read(offset, length) if length else b""

    def get_size(self) -> int:
        """Returns the volume's size."""
        return self._volume.size


class Sleuth:
    """One file system, opened by The Sleuth Kit."""

    def __init__(self, volume: Volume):
        """Raises `Malformed` if The Sleuth Kit can't open it."""
        self.volume = volume
        try:
            self._system = pytsk3.FS_Info(_Image(volume))
        except OSError as error:
            raise Malformed(str(error)) from error
        self.block = int(self._system.info.block_size)
        self.root = int(self._system.info.root_inum)

    def listed(self, problems: list[str]) -> Iterator[Listed]:
        """Yields the root and every path that a directory names. Adds to `problems` the directories that can't be read."""
        pending, seen = [("", self.root)], {self.root}
        yield self._of(self._system.open_meta(inode=self.root), "", self.root)
        while pending:
            path, number = pending.pop()
            self.volume.disk.report(len(seen) - len(pending), len(seen))
            try:
                entries = list(self._system.open_dir(inode=number))
            except OSError as error:
                problems.append(f"{path or '/'}: the directory can't be read: {error}")
                continue
            for entry in entries:
                name = entry.info.name
                if name is None or name.name in (b".", b"..") or not int(name.flags) & int(pytsk3.TSK_FS_NAME_FLAG_ALLOC):
                    continue
                if int(name.type) in _NOT_NAMED:
                    continue
                found = self._of(entry, f"{path}/{os.fsdecode(name.name)}", int(name.meta_addr))
                yield found
                if found.is_directory and found.in_use and found.number not in seen:
                    seen.add(found.number)
                    pending.append((found.path, found.number))

    def _of(self, file: Any, path: str, number: int) -> Listed:
        meta = file.info.meta
        if meta is None:
            return Listed(path, number, False, False, [], file)
        in_use = bool(int(meta.flags) & int(pytsk3.TSK_FS_META_FLAG_ALLOC))
        if path and file.info.name is not None and int(file.info.name.meta_seq) != int(meta.seq):
            in_use = False  # NTFS: the directory means the file that the record held before it was used again
        directory = int(meta.type) == int(pytsk3.TSK_FS_META_TYPE_DIR)
        return Listed(path, number, directory, in_use, [self._attribute(attribute) for attribute in file], file)

    def _attribute(self, attribute: Any) -> Attribute:
        info = attribute.info
        runs = [
            (int(run.offset) * self.block, int(run.addr) * self.block, int(run.len) * self.block)
            for run in attribute
            if not int(run.flags) & _NOT_ON_DISK
        ]
        return Attribute(int(info.type), os.fsdecode(info.name or b""), int(info.size), not int(info.flags) & _NOT_PLAIN, runs)

    def entry(self, listed: Listed, attribute: Attribute | None) -> FileEntry:
        """Returns one attribute of a file as an entry; an `attribute` of None means that the file has no content."""
        if not listed.in_use:
            return FileEntry(OTHER, 0, NO_RUNS, problem="what describes it is not in use")
        if listed.is_directory and (attribute is None or not attribute.is_content or not attribute.name):
            return FileEntry(DIRECTORY, 0, NO_RUNS)
        if attribute is None:
            return FileEntry(FILE, 0, NO_RUNS)
        try:
            # Compressed or resident content occupies other lengths than its size says, so its runs are kept whole.
            runs = self.volume.runs_on_disk(attribute.runs, attribute.size if attribute.plain else 1 << 62)
            digest = None if attribute.plain else self._digest(listed, attribute)
        except (OSError, Malformed) as error:
            return FileEntry(FILE, attribute.size, NO_RUNS, problem=str(error))
        return FileEntry(FILE, attribute.size, np.array(runs, np.int64).reshape(-1, 3), digest)

    def _digest(self, listed: Listed, attribute: Attribute) -> str:
        digest = hashlib.sha256()
        for offset in range(0, attribute.size, _STEP):
            wanted = min(_STEP, attribute.size - offset)
            for found in listed.file:
                # pytsk3 reads an attribute by type and number; the type alone would always give the unnamed stream.
                if int(found.info.type) == attribute.kind and os.fsdecode(found.info.name or b"") == attribute.name:
                    digest.update(listed.file.read_random(offset, wanted, found.info.type, found.info.id))
        return digest.hexdigest()
