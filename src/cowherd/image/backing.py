"""Where a backing file name leads: what an image stores, and the file that it means."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from cowherd.errors import BackingFileError
from cowherd.formats.layer import BackingReference

_PROTOCOL = re.compile(r"[A-Za-z0-9+.-]+:")
_FILE_DRIVERS = ("file", "host_device")


def resolve(overlay: str | os.PathLike[str], reference: BackingReference) -> BackingReference:
    """Returns the backing file's path, relative ones against the overlay's directory, and its format.

    Understands plain names, "file:NAME" and "json:{...}" with a file driver (also under a format driver, whose name is then the
    format). Raises `BackingFileError` for anything else: other protocols are never opened.
    """
    name, recorded = reference.name, reference.format
    if name.startswith("json:"):
        name, recorded = _from_json(overlay, reference)
    elif name.startswith("file:"):
        name = name.removeprefix("file:").removeprefix("//") if name.startswith("file:///") else name.removeprefix("file:")
    elif _PROTOCOL.match(name) and "/" not in name.split(":", 1)[0]:
        raise BackingFileError(overlay, name, f"the protocol '{name.split(':', 1)[0]}' is not supported")
    if not name:
        raise BackingFileError(overlay, name, "the name is empty")
    return BackingReference(os.path.join(os.path.dirname(os.path.realpath(overlay)), name), recorded)


def path_of(overlay: str | os.PathLike[str], reference: BackingReference) -> Path:
    """Returns just the path that `resolve` finds."""
    return Path(resolve(overlay, reference).name)


def _from_json(overlay: str | os.PathLike[str], reference: BackingReference) -> tuple[str, str | None]:
    try:
        options = json.loads(reference.name.removeprefix("json:"))
    except (ValueError, RecursionError) as error:
        raise BackingFileError(overlay, reference.name, f"not valid JSON: {error}") from error
    if not isinstance(options, dict):
        raise BackingFileError(overlay, reference.name, "the JSON is not an object")
    flat = _flattened(options)
    driver = flat.get("driver")
    is_format = driver is not None and driver not in _FILE_DRIVERS
    prefix = "file." if is_format or "file.filename" in flat else ""
    if flat.get(f"{prefix}driver", "file") not in _FILE_DRIVERS:
        raise BackingFileError(overlay, reference.name, f"the driver '{flat[f'{prefix}driver']}' is not supported")
    filename = flat.get(f"{prefix}filename")
    if not filename:
        raise BackingFileError(overlay, reference.name, "the JSON names no file")
    return filename, driver if is_format else reference.format


def _flattened(options: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested objects as dotted keys, the other form in which QEMU writes them."""
    flat: dict[str, str] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat
