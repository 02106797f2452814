"""The process that converts a stored image: `python -m cowherd.service.intake.processes.converter`, started by `conversion`.

Its arguments are the image and its format, the file to write, which is there, and the format of that. Its answer is a line of
JSON: `host` (an errno) if the host fails it, `check` and `detail` if the image can't be converted, or nothing.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError, HostFileError, InvalidRequest
from cowherd.ops.convert.convert import convert
from cowherd.service.intake.processes.limited import HOST_FAILED, enter
from cowherd.storage.opening import open_file

if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile, Opener
    from cowherd.urls import ImageName

CHECK = "conversion"
"""What a refusal is called of an image that can't be converted."""


def main() -> int:
    """Converts one image, and writes the answer. Returns the exit code."""
    print(json.dumps(converted(*enter())), flush=True)
    return 0


def converted(source: str, source_format: str, target: str, target_format: str) -> dict[str, object]:
    """Converts an image into another file; returns what went wrong, in the words of the answer."""
    try:
        convert(source, target, source_format=source_format, target_format=target_format, opener=_opener_of(source))
    except HostFileError as error:
        return {"host": error.errno or errno.EIO}
    except CowherdError as error:
        return {"check": CHECK, "detail": str(error).replace(source, "the image").rstrip(".")}
    return {}


def _opener_of(source: str) -> Opener:
    """Returns what opens this file alone, so that no name in an image is followed, whatever an inspection let through."""

    def open_alone(name: ImageName, *, writable: bool = False) -> BlockFile:
        if name != source or writable:
            raise InvalidRequest("it needs other files")
        return open_file(name)

    return open_alone


if __name__ == "__main__":
    try:
        os._exit(main())
    except OSError as error:  # it can't write its answer
        print(error, file=sys.stderr, flush=True)
        os._exit(HOST_FAILED)
