"""Pulls an image from a service, with the chain under it: verified, sealed, and under its name only when it is whole."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cowherd.client.faults import ContentDiffers, FileDiffers, NoSuchImage
from cowherd.client.fetching import fetch
from cowherd.client.hashing import hash_file
from cowherd.formats import registry
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.seals.seal import seal
from cowherd.ops.rebase.rebase import rebase
from cowherd.storage.atomic import TEMPORARY_PREFIX, name_newcomer
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cowherd.client.connection import Service
    from cowherd.progress import Progress

_SUFFIXES = {"qcow2": ".qcow2", "raw": ".img", "iso": ".iso", "vmdk": ".vmdk", "vdi": ".vdi", "vhd": ".vhd", "vhdx": ".vhdx"}
_LONGEST_CHAIN = 200
_OF_FILTERS = set(',:"')
"""Characters that mean something in a filter."""
_ID = re.compile(r"[\w-]{1,36}")


class Pulled(NamedTuple):
    """An image of a pull: its id and name at the service, its file here, its bytes.

    `fetched`: it was fetched, or would be; otherwise it was there.
    """

    image_id: str
    name: str
    path: str
    size: int
    fetched: bool


class _Wanted(NamedTuple):
    image: dict[str, Any]
    path: Path


def pull(
    service: Service,
    image: str,
    output: str | None = None,
    *,
    level: Protection = Protection.RECORDED,
    dry_run: bool = False,
    progress: Callable[[str], Progress | None] = lambda _: None,
) -> list[Pulled]:
    """Fetches the image that `image` names, by id or name, into the file `output`, and what it stands on into files beside it.

    The name of the backing file in an overlay becomes that of the file here. Each file is sealed at `level`. A pull that was
    interrupted goes on where it stopped. Without `output` the file is called as the image, in the current directory.
    `progress` is as for `push`. Raises `NoSuchImage`, `ContentDiffers`, `ServiceRefused`, `ServiceUnreachable`, `FileDiffers`
    if another file has the name, and what `seal` raises.
    """
    chain = _chain(service, image, output)
    done: list[Pulled] = []
    base: _Wanted | None = None
    for wanted in reversed(chain):
        there = _is_there(wanted, progress)
        if not dry_run:
            if not there:
                _fetch(service, wanted, base, progress)
            _seal(wanted, level, progress)
        found = wanted.image
        done.append(Pulled(found["id"], found.get("name") or "", os.fspath(wanted.path), found["size"], not there))
        base = wanted
    return done


def find_image(service: Service, image: str) -> dict[str, Any]:
    """Returns the image with content that has that id, or alone has that name. Raises `NoSuchImage`."""
    if _ID.fullmatch(image):
        found = service.ask("GET", f"/v2/images/{image}")
        if found.status == 200:
            one = service.parsed(found, f"/v2/images/{image}")
            if one.get("size") is None or one.get("status") != "active":
                raise NoSuchImage(image)
            return dict(one)
    asked = {} if set(image) & _OF_FILTERS else {"name": image}
    named = [one for one in service.images(status="active", **asked) if one.get("name") == image]
    if len(named) != 1:
        raise NoSuchImage(image, [str(one["id"]) for one in named])
    return named[0]


def _chain(service: Service, image: str, output: str | None) -> Sequence[_Wanted]:
    """Returns an image and what it stands on, the root last, each with the file that it is to be."""
    top = find_image(service, image)
    chain = [_Wanted(top, Path(output) if output is not None else Path(_local_name(top)))]
    while base_id := chain[-1].image.get("cowherd_base"):
        base = find_image(service, base_id)
        if len(chain) == _LONGEST_CHAIN or any(one.image["id"] == base["id"] for one in chain):
            raise ContentDiffers(str(top["id"]), "the service names a base without end")
        chain.append(_Wanted(base, _free_path(chain, base)))
    return chain


def _free_path(chain: Sequence[_Wanted], base: dict[str, Any]) -> Path:
    """Returns the file of a base: beside the top image, called as the base, and as nothing else of the chain."""
    path = chain[0].path.with_name(_local_name(base))
    if any(one.path == path for one in chain):
        return path.with_name(f"{path.stem}-{base['id'][:8]}{path.suffix}")
    return path


def _local_name(image: dict[str, Any]) -> str:
    """Returns the name of a file for an image: its own with a suffix that tells the format, if that can be a file's name."""
    name = image.get("name") or ""
    if not name or "/" in name or name.startswith(".") or not name.isprintable():
        name = image["id"]
    suffix = _SUFFIXES.get(image.get("disk_format") or "", "")
    return name if Path(name).suffix in (suffix, *_SUFFIXES.values(), ".raw") else name + suffix


def _is_there(wanted: _Wanted, progress: Callable[[str], Progress | None]) -> bool:
    """Tells whether an earlier pull made the file. Raises `FileDiffers` if another file has the name."""
    if not is_there(wanted.path):
        return False
    image, algorithm = wanted.image, wanted.image.get("os_hash_algo")
    if not algorithm or image.get("cowherd_base"):  # the file of an overlay names its base as it is called here
        raise FileDiffers(wanted.path)
    with HostFile.open(wanted.path, lock=READ) as file:
        if hash_file(file, (algorithm,), progress(f"reading {wanted.path.name}"))[algorithm] != image.get("os_hash_value"):
            raise FileDiffers(wanted.path)
    return True


def _fetch(service: Service, wanted: _Wanted, base: _Wanted | None, progress: Callable[[str], Progress | None]) -> None:
    """Fetches an image into its file, which has its name only when all is in it."""
    image = wanted.image
    unfinished = wanted.path.with_name(f"{TEMPORARY_PREFIX}pull-{image['id']}")
    fetch(service, image, unfinished, progress(f"fetching {wanted.path.name}"))
    if base is not None:
        _link(unfinished, base)
    with HostFile.open(unfinished, writable=True, lock=None, follow=False) as file:
        file.flush(whole=True)
        name_newcomer(file, wanted.path)


def _link(overlay: Path, base: _Wanted) -> None:
    """Makes an overlay name its base as that is called here, if it was made on what that holds. Raises `ContentDiffers`."""
    binding, record = read_binding(overlay), read_record(seal_path(base.path))
    if binding is None or binding.content_digest != record.content_digest:
        raise ContentDiffers(str(overlay), f"it was not made on what {base.path} holds")
    format = base.image["disk_format"]
    rebase(overlay, base.path.name, format=registry.QCOW2.name, backing_format=format, unsafe=True)


def _seal(wanted: _Wanted, level: Protection, progress: Callable[[str], Progress | None]) -> None:
    format = wanted.image.get("disk_format") or ""
    known = format if registry.named(format).is_known else None
    told = progress(f"sealing {wanted.path.name}")
    seal(wanted.path, level=level, image_format=known, looked_at=True, progress=told)  # the service has inspected it
