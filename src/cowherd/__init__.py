"""cowherd: tend a herd of QEMU copy-on-write disks.

`cowherd.open` gives a disk to read and write; `create`, `convert`, `commit`, `rebase`, `compare`, `check`, `measure` and
`resize` are jobs on whole images; `clone`, `seal`, `unseal`, `bind`, `verify`, `impact`, `repair`, `merge`, `recover` and `tree`
are the guard; `doctor`, `move`, `relink`, `flatten`, `retarget`, `trash`, `restore`, `gc` and others are daily work. Names are
looked up in `cowherd.changes`, `cowherd.api` and `cowherd.errors` when they are first used, so that importing this package
costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # type checkers see the names; at run time __getattr__ finds them
    from typing import Any

    from cowherd.api import *  # noqa: F403  (all that it imports by name as itself, and no more)
    from cowherd.changes import *  # noqa: F403 - all that it defines
    from cowherd.cli.guard.look.page_of import report as report
    from cowherd.errors import *  # noqa: F403 - likewise
    from cowherd.herd.gate.startup import Start as Start
    from cowherd.herd.gate.startup import check_domain as check_domain
    from cowherd.herd.watch.daemon import WatchFailed as WatchFailed
    from cowherd.herd.watch.notifier import CantWatch as CantWatch
    from cowherd.herd.watch.watching import watch as watch
    from cowherd.live.machine.drive import MachineUnclear as MachineUnclear

_PROJECT = "qemu-cowherd"  # by which the installed programs know that this is the package they belong to
_HOMES = {
    "cowherd.changes": ("commit", "convert", "create", "delete", "open", "rebase", "resize"),
    "cowherd.api": (
        "Adopted",
        "BackingLoop",
        "BaseNotFound",
        "BindingContradicted",
        "BindingImpossible",
        "CheckNotSupported",
        "CheckReport",
        "Cloned",
        "Comparison",
        "ContentChanging",
        "Diagnosis",
        "Disk",
        "DiskOfDomain",
        "DomainNotRedefined",
        "DomainSaved",
        "DonorMissing",
        "DriftFound",
        "Finding",
        "Garbage",
        "HerdNotReadable",
        "History",
        "HoldersHidden",
        "ImageInfo",
        "Impact",
        "Inspection",
        "Inspector",
        "KeyUnusable",
        "Measurement",
        "MergeFailed",
        "MergeInterrupted",
        "MergePending",
        "Merged",
        "Move",
        "NewBackingFileError",
        "NotSealed",
        "Overview",
        "Promoted",
        "Protection",
        "Qcow2Options",
        "ReadFailed",
        "RebasedOverlay",
        "Recovered",
        "Relinked",
        "RepairFailed",
        "Repaired",
        "Restored",
        "Sealed",
        "Shown",
        "SigningUnavailable",
        "Standing",
        "TrashEntry",
        "Tree",
        "UnsealRefused",
        "Url",
        "Verified",
        "bind",
        "chain_info",
        "check",
        "clone",
        "compare",
        "doctor",
        "empty_trash",
        "flatten",
        "gc",
        "image_info",
        "impact",
        "impact_on_files",
        "inspect",
        "log",
        "measure",
        "merge",
        "move",
        "overview",
        "promote",
        "public_key",
        "recover",
        "relink",
        "repair",
        "restore",
        "retarget",
        "seal",
        "show",
        "status",
        "trash",
        "trashed",
        "tree",
        "unseal",
        "verify",
    ),
    # Each of these is loaded by itself: the rest of the API does without what they need.
    "cowherd.herd.gate.startup": ("Start", "check_domain"),
    "cowherd.live.machine.drive": ("MachineUnclear",),
    "cowherd.herd.watch.watching": ("watch",),
    "cowherd.herd.watch.daemon": ("WatchFailed",),
    "cowherd.herd.watch.notifier": ("CantWatch",),
    "cowherd.cli.guard.look.page_of": ("report",),
    "cowherd.errors": (
        "BackingFileError",
        "BackingNotFollowed",
        "BaseInUse",
        "BaseSealed",
        "CowherdError",
        "FlushFailed",
        "HostError",
        "HostFileError",
        "ImageCorrupt",
        "ImageFormatError",
        "ImageInUse",
        "InvalidRequest",
        "NotEnoughSpace",
        "ReadOnlyImage",
        "RemoteFileError",
        "SnapshotsWouldChange",
        "UnsupportedFeature",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'cowherd' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
