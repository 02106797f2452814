"""How often a command looks at a whole herd, and opens each image of it.

Each look costs what the herd is large, so that every one above the first must have a reason. It has one where something changed
on the disk, or a lock was taken, since the look before: what was seen before a lock is held may be wrong. What a command reads it
holds, locked, until it is done. An image that is written to is opened once more, and only then: until this process itself can
write to it, the kernel tells whether anybody else has it open, and a sealed one can't be opened for writing before its protection
is lifted, which is the first change. Openings that ask for an attribute, and those of records, are not counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cowherd import commit, rebase
from cowherd.herd.lineage import survey as surveys
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.flatten import flatten
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.overlays.retarget import retarget
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.storage.hostfile import HostFile
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path):
    """A sealed base and a sealed copy of it; on the base stand two clones, `overlay` and `other`, and on `overlay` `top`."""
    make_base(tmp_path / "base", noise(MIB))
    make_base(tmp_path / "copy", noise(MIB))
    seal(tmp_path / "copy")
    clone(tmp_path / "base", tmp_path / "overlay")
    clone(tmp_path / "base", tmp_path / "other")
    make_overlay(tmp_path / "top", "overlay")
    write(tmp_path / "overlay", "write -P 1 0 300k")
    return tmp_path


class Looks(NamedTuple):
    """A command, how often it scans the herd, and how often it opens images; each count above 1 has its reason beside it."""

    work: Callable[[Path], object]
    scans: int
    opens: dict[str, int]
    before: Callable[[Path], object] = lambda herd: None


LOOKS = {
    "rebase": Looks(
        lambda herd: rebase(herd / "overlay", "copy", backing_format="qcow2"),
        scans=1,
        opens={
            "overlay": 2,  # held; written to
            "base": 1,
            "copy": 1,
        },
    ),
    "rebase, unsealed": Looks(
        lambda herd: rebase(herd / "overlay", "copy", backing_format="qcow2"),
        scans=1,
        opens={
            "overlay": 2,  # held; written to
            "base": 1,
            "copy": 1,
        },
        before=lambda herd: os.unlink(seal_path(herd / "base")),
    ),
    "commit": Looks(
        lambda herd: commit(herd / "top"),
        scans=1,
        opens={
            "top": 2,  # held and read; emptied
            "overlay": 2,  # held and read; written to
            "base": 1,
        },
    ),
    "merge, preserve": Looks(
        lambda herd: merge(herd / "overlay", strategy="preserve"),
        scans=4,  # to know what to lock; under the locks to plan; under those to write, for new overlays; when all is written
        opens={
            "base": 2,  # held and read; written to
            "overlay": 1,
            "other": 2,  # held and read; served, and bound when the base has its new seal
            "top": 2,  # held and read; put on the base
        },
    ),
    "merge, fork": Looks(
        lambda herd: merge(herd / "overlay", strategy="fork"),
        scans=5,  # as above, and with the new base, to seal it
        opens={
            "base": 1,
            "overlay": 1,
            "other": 1,
            "top": 2,  # held and read; put on the new base
            "new": 3,  # written to, read back; read under its own locks to be sealed
        },
    ),
    "merge of a leaf": Looks(
        lambda herd: merge(herd / "top"),
        scans=4,  # as above
        opens={
            "top": 1,
            "overlay": 2,  # held and read; written to
            "base": 1,
        },
    ),
    "seal --bind": Looks(
        lambda herd: seal(herd / "overlay", bind=True),
        scans=1,
        opens={
            "overlay": 1,
            "base": 1,
            "top": 2,  # held; bound
        },
    ),
    "retarget": Looks(
        lambda herd: retarget([herd / "overlay"], herd / "copy"),
        scans=1,
        opens={
            "overlay": 2,  # held and read; written to
            "base": 1,
            "copy": 1,
        },
    ),
    "flatten": Looks(
        lambda herd: flatten(herd / "overlay"),
        scans=1,
        opens={
            "overlay": 2,  # held and read; written to
            "base": 1,
        },
    ),
    "move": Looks(
        lambda herd: move(herd / "base", herd / "moved"),
        scans=2,  # from its new place: seals learn their files, and this host where the overlays of the moved image lie
        opens={
            "base": 2,  # locks tried, and again before the old name goes
            "overlay": 3,  # locks tried before anything is done, and before its header is written; written
            "other": 3,  # as the overlay
        },
    ),
    "promote": Looks(
        lambda herd: promote(herd / "overlay", herd / "promoted"),
        scans=2,  # with the new base, to seal it
        opens={
            "overlay": 1,
            "base": 1,
            "new": 1,
        },
    ),
    "repair": Looks(
        lambda herd: repair(herd / "base"),
        scans=1,
        opens={
            "base": 2,  # held and read; written to
            "copy": 2,  # compared with the seal, and closed, for a herd may have many that are compared; read
        },
        before=lambda herd: write(herd / "base", "write -P 5 0 64k"),
    ),
    "repair --preserve": Looks(
        lambda herd: repair(herd / "base", preserve=True),
        scans=1,
        opens={
            "base": 1,
            "overlay": 2,  # held and read; written to
            "other": 2,  # as the overlay
            "copy": 2,  # compared with the seal, and closed, for a herd may have many that are compared; read
        },
        before=lambda herd: write(herd / "base", "write -P 5 0 64k"),
    ),
}


def looks_of(monkeypatch, herd, work) -> Counter[str]:
    """How often `work` scans the herd ("scan"), and opens each image by the name that it has before; others are "new"."""
    names = {path.stat().st_ino: path.name for path in herd.iterdir()}
    counted: Counter[str] = Counter()
    scan, opened = surveys.scan, HostFile.open.__func__

    def scanning(*arguments, **options):
        counted["scan"] += 1
        return scan(*arguments, **options)

    def opening(cls, *arguments, follow=True, **options):
        file = opened(cls, *arguments, follow=follow, **options)
        if follow:  # records, and files of which only an attribute is asked, are opened without following links
            counted[names.get(os.fstat(file.fd).st_ino, "new")] += 1
        return file

    with monkeypatch.context() as patch:
        patch.setattr(surveys, "scan", scanning)
        patch.setattr(HostFile, "open", classmethod(opening))
        work()
    return counted


@pytest.mark.parametrize("name", LOOKS)
def test_no_command_looks_more_often_than_it_has_a_reason_to(herd, monkeypatch, name):
    looks = LOOKS[name]
    looks.before(herd)
    assert looks_of(monkeypatch, herd, lambda: looks.work(herd)) == {"scan": looks.scans, **looks.opens}
