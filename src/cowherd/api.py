"""The public API: jobs on images with the gate in front, and the guard.

Everything that changes an image asks the gate first (`cowherd.herd.gate`): a sealed image, or one that other overlays depend
on, is refused with `BaseSealed` or `BaseInUse`. `break_dependents=True` is the one way past it. Errors about an image in use
name who has it open. Dependents are looked for in the directory of the image and in `herd`.
"""

from __future__ import annotations

from cowherd.changes import commit, convert, create, delete, open, rebase, resize
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.herd.bind import Adopted
from cowherd.herd.bind import adopt as bind
from cowherd.herd.clone import Cloned, clone
from cowherd.herd.doctor.doctor import Diagnosis, doctor
from cowherd.herd.doctor.finding import Finding
from cowherd.herd.domains import DiskOfDomain, DomainNotRedefined, DomainSaved
from cowherd.herd.faults import (
    BindingContradicted,
    BindingImpossible,
    ContentChanging,
    DonorMissing,
    DriftFound,
    HerdNotReadable,
    NotSealed,
    RepairFailed,
    UnsealRefused,
)
from cowherd.herd.files import impact_on_files
from cowherd.herd.flatten import flatten
from cowherd.herd.gc import Garbage, gc
from cowherd.herd.impact import Impact, impact
from cowherd.herd.in_use import HoldersHidden
from cowherd.herd.merging.merge import Merged, MergeInterrupted, merge
from cowherd.herd.merging.pending import MergePending
from cowherd.herd.merging.recover import Recovered, recover
from cowherd.herd.merging.steps import MergeFailed
from cowherd.herd.move import Move, move
from cowherd.herd.overview import Overview, overview
from cowherd.herd.plan import Repaired
from cowherd.herd.promote import Promoted, promote
from cowherd.herd.relink import BaseNotFound, Relinked, relink
from cowherd.herd.repair import repair
from cowherd.herd.retarget import retarget
from cowherd.herd.seal import Sealed, seal
from cowherd.herd.signing import KeyUnusable, SigningUnavailable, public_key
from cowherd.herd.standing import Settled
from cowherd.herd.trash import Restored, empty_trash, restore, trash, trashed
from cowherd.herd.trashbox import Entry as TrashEntry
from cowherd.herd.tree import Tree, tree
from cowherd.herd.unseal import unseal
from cowherd.herd.verify import Verified, verify
from cowherd.image.disk import Disk
from cowherd.ops.check import CheckNotSupported, CheckReport, check
from cowherd.ops.compare import Comparison, ReadFailed, compare
from cowherd.ops.info import BackingLoop, ImageInfo, chain_info, image_info
from cowherd.ops.inspect.inspector import Inspector, inspect
from cowherd.ops.inspect.report import Inspection
from cowherd.ops.measure import Measurement, measure
from cowherd.ops.rebase import NewBackingFileError
from cowherd.storage.protection import Protection

__all__ = [
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
    "Recovered",
    "Relinked",
    "RepairFailed",
    "Repaired",
    "Restored",
    "Sealed",
    "Settled",
    "SigningUnavailable",
    "TrashEntry",
    "Tree",
    "UnsealRefused",
    "Verified",
    "bind",
    "chain_info",
    "check",
    "clone",
    "commit",
    "compare",
    "convert",
    "create",
    "delete",
    "doctor",
    "empty_trash",
    "flatten",
    "gc",
    "image_info",
    "impact",
    "impact_on_files",
    "inspect",
    "measure",
    "merge",
    "move",
    "open",
    "overview",
    "promote",
    "public_key",
    "rebase",
    "recover",
    "relink",
    "repair",
    "resize",
    "restore",
    "retarget",
    "seal",
    "trash",
    "trashed",
    "tree",
    "unseal",
    "verify",
]
