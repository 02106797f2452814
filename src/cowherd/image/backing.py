"""Where a backing file name leads: what an image stores, and the file that it means."""

from __future__ import annotations

import os

from cowherd.errors import BackingFileError, BackingNotFollowed
from cowherd.formats import registry
from cowherd.formats.reference import BackingReference
from cowherd.paths import as_path
from cowherd.text import has_surrogates
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from cowherd.paths import PathName
    from cowherd.urls import ImageName

_FILE_DRIVERS = ("file", "host_device")
_WITHOUT_EFFECT = frozenset(
    (
        "aio",
        "auto-read-only",
        "cache.direct",
        "cache.no-flush",
        "detect-zeroes",
        "discard",
        "drop-cache",
        "force-share",
        "locking",
        "node-name",
        "read-only",
    )
)
"""QEMU options that change neither which file is read nor what its bytes mean."""


def has_protocol(name: str) -> bool:
    """Whether QEMU reads the start of the name as a protocol: it does if a colon comes before the first slash."""
    return ":" in name.split("/", 1)[0]


def resolve(overlay: ImageName, reference: BackingReference) -> BackingReference:
    """Returns the backing file's path and its format.

    A plain relative name is relative to the directory part of `overlay`, even if `overlay` is a symbolic link, as in QEMU; the
    path stays relative if `overlay` is. The function also understands "file:NAME", and "json:{...}" with a file driver, under a
    format driver or not; relative names in those are relative to the working directory, again as in QEMU. A recorded format
    takes precedence over the JSON's.

    Raises `BackingNotFollowed` for other protocols, for options that would change what is read, and for every backing file of an
    image that is itself read over HTTP: QEMU follows these and cowherd does not. Raises `BackingFileError` for a name that makes
    no sense.
    """
    if isinstance(overlay, Url):  # else the server would choose which files of this host, or of its network, are read
        raise BackingNotFollowed(overlay, reference.name, "an image that is read over HTTP leads to no other file")
    name, recorded = reference.name, reference.format
    if name.startswith("json:"):
        name, recorded = _from_json(overlay, reference)
    elif name.startswith("file:"):
        name = name.removeprefix("file:")
    elif has_protocol(name):
        raise BackingNotFollowed(overlay, name, f"the protocol '{name.split(':', 1)[0]}' is not supported")
    elif name:
        name = os.path.join(os.path.dirname(overlay), name)
    if not name:
        raise BackingFileError(overlay, reference.name, "the name is empty")
    if "\0" in name:
        raise BackingFileError(overlay, reference.name, "the name holds a zero byte")
    return BackingReference(name, recorded)


def path_of(overlay: PathName, reference: BackingReference) -> Path:
    """Returns just the path that `resolve` finds."""
    return as_path(resolve(overlay, reference).name)


def _from_json(overlay: PathName, reference: BackingReference) -> tuple[str, str | None]:
    import json

    try:
        options = json.loads(reference.name.removeprefix("json:"))
        flat = _flattened(options) if isinstance(options, dict) else None
    except (ValueError, RecursionError) as error:
        raise BackingFileError(overlay, reference.name, f"not valid JSON: {error}") from error
    if flat is None:
        raise BackingFileError(overlay, reference.name, "the JSON is not an object")
    files = _local_files(options)
    driver = flat.pop("driver", None)
    if driver in _FILE_DRIVERS and reference.format is None:  # no format driver: the file's bytes are the disk
        return _filename(overlay, reference, flat, "", files), registry.RAW.name
    if driver is None or (isinstance(driver, str) and registry.named(driver).is_known):
        return _filename(overlay, reference, flat, "file.", files), reference.format or driver
    raise BackingNotFollowed(overlay, reference.name, f"the driver '{driver}' is not supported here", files)


def _filename(overlay: PathName, reference: BackingReference, flat: dict[str, Any], prefix: str, files: tuple[str, ...]) -> str:
    """Returns the file name among the options `flat`; every other option must be known to leave the content alone."""
    driver = flat.pop(f"{prefix}driver", _FILE_DRIVERS[0])
    if driver not in _FILE_DRIVERS:
        raise BackingNotFollowed(overlay, reference.name, f"the driver '{driver}' is not supported", files)
    filename = flat.pop(f"{prefix}filename", None)
    for option in flat:
        if option.removeprefix("file.") not in _WITHOUT_EFFECT:
            raise BackingNotFollowed(overlay, reference.name, f"the option '{option}' is not supported", files)
    if not isinstance(filename, str) or not filename or has_surrogates(filename):  # surrogates are no characters, also in QEMU
        raise BackingFileError(overlay, reference.name, "the JSON names no file")
    return filename


def _local_files(options: Any) -> tuple[str, ...]:
    """Returns the possible local files among nested options: each "filename", whether its driver is known or not."""
    found: dict[str, None] = {}
    pending = [options]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
            names = [name for key, name in value.items() if str(key).rpartition(".")[2] == "filename"]
            found |= {name.removeprefix("file:"): None for name in names if isinstance(name, str) and name and "\0" not in name}
    return tuple(found)


def _flattened(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested objects as dotted keys, the other form in which QEMU writes them."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
