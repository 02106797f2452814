"""Where to look for the relatives of images, or of what is in directories, and what to remember of a look."""

from __future__ import annotations

import os
from functools import cache

from cowherd.errors import CowherdError
from cowherd.formats import registry
from cowherd.herd.lineage.book.config import herds
from cowherd.herd.lineage.book.memory import Memory, inode_of_links
from cowherd.herd.lineage.book.places import Places
from cowherd.herd.records.header import Head, read_image
from cowherd.image.backing import resolve
from cowherd.image.chain import MAX_CHAIN
from cowherd.live.beside import open_beside
from cowherd.live.libvirt_names import named_paths
from cowherd.paths import lies_in
from cowherd.storage.filetype import is_device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.paths import PathName
    from cowherd.storage.holding import Holding

LEVELS_BELOW_HOME = 1


def places_under(directories: Iterable[PathName], homes: Iterable[PathName] = ()) -> Places:
    """Returns where to look for the herd: in `directories` with everything under them, and in `homes` with the directories
    directly in them. Nobody named the homes: some image just lies there. Raises `ConfigUnclear`, `HostFileError`."""
    places: dict[str, int | None] = {os.path.realpath(home): LEVELS_BELOW_HOME for home in homes}
    places |= {os.path.realpath(directory): None for directory in directories}
    files, pools = named_paths()
    return Places(places, herds=tuple(herds()), pools=tuple(filter(os.path.isdir, pools)), files=tuple(files))


def places_around(paths: Sequence[PathName], herd: Sequence[PathName] = (), held: Holding | None = None) -> Places:
    """Returns where to look for what stands on images, and on any image in their chains; the caller may have some `held`.

    Raises as `places_under`.
    """
    chained = [file for path in paths for file in _chain_of(os.fspath(path))]
    homes = [os.path.dirname(spelling) for path in chained for spelling in (os.path.abspath(path), os.path.realpath(path))]
    homes += [home for path in chained for home in _homes_of_links(path)]
    places = places_under(herd, homes)
    around = dict.fromkeys(os.path.realpath(home) for home in homes)
    return places._replace(
        around=tuple(around),
        files=(*places.files, *open_beside(chained, held)),
        devices=tuple(os.path.realpath(path) for path in paths if is_device(path)),
    )


def _chain_of(path: str) -> Iterator[str]:
    """Yields an image's file and those below it, as far as headers name them without doubt."""
    seen: set[str] = set()
    image_format: str | None = None
    while path not in seen and len(seen) < MAX_CHAIN:
        seen.add(path)
        yield path
        if image_format is not None and not registry.named(image_format).backing:
            return  # its bytes are the guest's, which may have made them look like a header
        try:
            head = read_image(path).content
            if not isinstance(head, Head) or head.backing is None:
                return
            path, image_format = resolve(path, head.backing)
        except (OSError, ValueError, CowherdError):
            return  # opening the image reports what is wrong with it


def _homes_of_links(path: str) -> list[str]:
    """Returns the directories in which names of a file that has several were seen."""
    number = inode_of_links(path)
    return [] if number is None else [one.directory for one in Memory().recall_links(number)]


def remember(lineage: Lineage) -> None:
    """Remembers the directories of overlays whose bases lie in another directory, and bases that have several names."""
    memory, herds = lineage.memory, lineage.places.herds
    is_named = cache(lambda directory: any(lies_in(directory, herd) for herd in herds))  # there are few directories
    found: dict[str, dict[tuple[str, str], str]] = {}
    for directory, base, example in lineage.apart:
        home, name = os.path.split(base)
        if directory != home and not is_named(directory):
            found.setdefault(home, {})[directory, name] = example
        number = inode_of_links(base)
        if number is not None:
            memory.remember_link(number, base, example)
    for home, places in found.items():
        memory.remember(home, places)


def remember_name(base: str) -> None:
    """Remembers the name beside which a seal lies, if the file has other names."""
    real = os.path.realpath(base)
    number = inode_of_links(real)
    if number is not None:
        Memory().remember_link(number, real)
