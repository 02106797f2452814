"""The state that the checks of one examination share: the herd, the options, and how remedies are written."""

from __future__ import annotations

import contextlib
import os
from functools import cached_property

from cowherd.herd.doctor.live_snapshots import parents_of_live_snapshots
from cowherd.herd.lineage.backing_names import breaks_when_moved
from cowherd.herd.machines.running import look_at
from cowherd.live.kernel_holders import FILE
from cowherd.live.libvirt_records import read_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.pending import Pending
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.herd.machines.running import Runs
    from cowherd.herd.seals.verify import Checker
    from cowherd.live.holders import Holder
    from cowherd.live.libvirt_records import DomainRecord
    from cowherd.live.running import Look
    from cowherd.paths import PathName


class Examination:
    """One examination of a herd. `full`: read content and tables too; `longest_chain`: a chain of more images is a finding;
    `runs`: what runs on the herd, if the caller has looked through all processes already. Raises `HostFileError` if there is no
    /proc."""

    def __init__(self, lineage: Lineage, checker: Checker, full: bool, longest_chain: int, runs: Runs | None = None):
        self.lineage, self.checker = lineage, checker
        self.runs = runs or look_at(lineage, only_machines=False)
        self.full, self.longest_chain = full, longest_chain

    @cached_property
    def images(self) -> tuple[Image, ...]:
        """The images, each base before its overlays."""
        return tuple(image for _, image, _ in self.lineage.walk())

    @cached_property
    def written(self) -> Mapping[Key, tuple[Holder, ...]]:
        """The images of the herd that processes have open for writing right now, with these processes."""
        writing = {
            self.runs.key_of(key): tuple(holder for holder in those if holder.writing)
            for key, those in self.runs.glance.holders.items()
        }
        return {key: those for key, those in writing.items() if those}

    @cached_property
    def look(self) -> Look | None:
        """The processes that use the herd, as they and their monitors see it; None if there is none, and none is hidden."""
        seen = self.runs.glance
        lost = [disk for disk in seen.gone if self.lineage.was_listed(os.path.dirname(disk.path))]
        pids = {holder.pid for those in seen.holders.values() for holder in those} | {disk.holder.pid for disk in lost}
        if not (pids or seen.hidden):
            return None
        import dataclasses  # like the modules that ask monitors, only where there is something to ask

        from cowherd.live.running import look_at_all

        found = look_at_all({*seen.holders, *(disk.key for disk in lost)}, among=sorted(pids))
        return dataclasses.replace(found, hidden=seen.hidden)

    @cached_property
    def merging(self) -> frozenset[tuple[str, int, int]]:
        """The files that a merge concerns which is not at its end, by their keys in `live`."""
        concerned = filter(self.merges.concerning, self.lineage.images.values()) if self.merges.journals else ()
        return frozenset((FILE, *image.key) for image in concerned)

    def may_change(self, image: Image) -> bool:
        """Returns whether this user can change an image's file: not on a read-only file system, and it is writable or ours."""
        device = image.key[0]
        if device not in self._read_only:
            with contextlib.suppress(OSError):  # it is gone, which other checks report
                self._read_only[device] = bool(os.statvfs(image.filename).f_flag & os.ST_RDONLY)
        if self._read_only.get(device):
            return False
        return os.geteuid() == 0 or os.access(image.filename, os.W_OK) or os.stat(image.filename).st_uid == os.geteuid()

    @cached_property
    def domains(self) -> tuple[DomainRecord, ...]:
        """The domains in libvirt's records."""
        return read_records().domains

    @cached_property
    def live_snapshot_parents(self) -> set[str]:
        """The images below snapshots of running domains: libvirt writes to them when it merges the snapshots back."""
        return parents_of_live_snapshots(self.domains, self.lineage) if any(domain.active for domain in self.domains) else set()

    @cached_property
    def merges(self) -> Pending:
        """The merges that run or were interrupted."""
        return self.checker.merges(self.lineage)

    @cached_property
    def _read_only(self) -> dict[int, bool]:
        return {}

    @cached_property
    def _fragile(self) -> dict[tuple[str, str, str], bool]:
        return {}

    def breaks_when_moved(self, image: Image, base: Image) -> bool:
        """Returns what `backing_names.breaks_when_moved` does; computes it once for overlays in a directory with equal names."""
        assert image.backing is not None
        filename = image.filenames[0]
        place = filename[: filename.rindex("/")], image.backing.name, base.filenames[0]
        known = self._fragile.get(place)
        if known is None:
            known = self._fragile[place] = breaks_when_moved(image, base, self.lineage.real_directory(base))
        return known

    def command(self, *words: PathName, herd: bool = True) -> tuple[str, ...]:
        """Returns a command as words; with `herd` it gets the directories of this examination as --herd."""
        return (*(os.fspath(word) for word in words), *(self._places if herd else ()))

    @cached_property
    def _places(self) -> tuple[str, ...]:
        return tuple(word for place in self.lineage.directories for word in ("--herd", place))
