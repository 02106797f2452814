"""The public API: jobs on images with the gate in front, and the guard.

Every change of an image passes the gate first (`cowherd.herd.gate.gate`), which refuses a sealed image, or one that overlays
depend on, with `BaseSealed` or `BaseInUse`. `break_dependents=True` is the only way past it. Errors about an image in use name
the processes that have it open. The gate looks for dependents in the directory of the image, in `herd`, and where they are known
to lie.
"""

from __future__ import annotations

from cowherd.changes import (
    commit as commit,
)
from cowherd.changes import (
    convert as convert,
)
from cowherd.changes import (
    create as create,
)
from cowherd.changes import (
    delete as delete,
)
from cowherd.changes import (
    open as open,
)
from cowherd.changes import (
    rebase as rebase,
)
from cowherd.changes import (
    resize as resize,
)
from cowherd.formats.qcow2.options import Qcow2Options as Qcow2Options
from cowherd.herd.doctor.doctor import Diagnosis as Diagnosis
from cowherd.herd.doctor.doctor import doctor as doctor
from cowherd.herd.doctor.finding import Finding as Finding
from cowherd.herd.impact.files import impact_on_files as impact_on_files
from cowherd.herd.impact.impact import Impact as Impact
from cowherd.herd.impact.impact import impact as impact
from cowherd.herd.lineage.pending import MergePending as MergePending
from cowherd.herd.log.history import History as History
from cowherd.herd.log.history import log as log
from cowherd.herd.machines.domains import (
    DiskOfDomain as DiskOfDomain,
)
from cowherd.herd.machines.domains import (
    DomainNotRedefined as DomainNotRedefined,
)
from cowherd.herd.machines.domains import (
    DomainSaved as DomainSaved,
)
from cowherd.herd.machines.in_use import HoldersHidden as HoldersHidden
from cowherd.herd.merge.faults import MergeFailed as MergeFailed
from cowherd.herd.merge.faults import MergeInterrupted as MergeInterrupted
from cowherd.herd.merge.merge import Merged as Merged
from cowherd.herd.merge.merge import merge as merge
from cowherd.herd.merge.recover import Recovered as Recovered
from cowherd.herd.merge.recover import recover as recover
from cowherd.herd.overlays.clone import Cloned as Cloned
from cowherd.herd.overlays.clone import clone as clone
from cowherd.herd.overlays.flatten import flatten as flatten
from cowherd.herd.overlays.move import Move as Move
from cowherd.herd.overlays.move import move as move
from cowherd.herd.overlays.promote import Promoted as Promoted
from cowherd.herd.overlays.promote import promote as promote
from cowherd.herd.overlays.rebasing import RebasedOverlay as RebasedOverlay
from cowherd.herd.overlays.relink import BaseNotFound as BaseNotFound
from cowherd.herd.overlays.relink import Relinked as Relinked
from cowherd.herd.overlays.relink import relink as relink
from cowherd.herd.overlays.retarget import retarget as retarget
from cowherd.herd.records.faults import (
    BindingContradicted as BindingContradicted,
)
from cowherd.herd.records.faults import (
    BindingImpossible as BindingImpossible,
)
from cowherd.herd.records.faults import (
    ContentChanging as ContentChanging,
)
from cowherd.herd.records.faults import (
    DonorMissing as DonorMissing,
)
from cowherd.herd.records.faults import (
    DriftFound as DriftFound,
)
from cowherd.herd.records.faults import (
    HerdNotReadable as HerdNotReadable,
)
from cowherd.herd.records.faults import (
    NotSealed as NotSealed,
)
from cowherd.herd.records.faults import (
    RepairFailed as RepairFailed,
)
from cowherd.herd.records.faults import (
    UnsealRefused as UnsealRefused,
)
from cowherd.herd.records.signing import (
    KeyUnusable as KeyUnusable,
)
from cowherd.herd.records.signing import (
    SigningUnavailable as SigningUnavailable,
)
from cowherd.herd.records.signing import (
    public_key as public_key,
)
from cowherd.herd.records.trashbox import Entry as TrashEntry
from cowherd.herd.repair.plan import Repaired as Repaired
from cowherd.herd.repair.repair import repair as repair
from cowherd.herd.report.bases import Standing as Standing
from cowherd.herd.report.bases import standing as status
from cowherd.herd.report.overview import Overview as Overview
from cowherd.herd.report.overview import overview as overview
from cowherd.herd.report.show import Shown as Shown
from cowherd.herd.report.show import show as show
from cowherd.herd.report.tree import Tree as Tree
from cowherd.herd.report.tree import tree as tree
from cowherd.herd.seals.adopt import Adopted as Adopted
from cowherd.herd.seals.adopt import adopt as bind
from cowherd.herd.seals.seal import Sealed as Sealed
from cowherd.herd.seals.seal import seal as seal
from cowherd.herd.seals.unseal import unseal as unseal
from cowherd.herd.seals.verify import Verified as Verified
from cowherd.herd.seals.verify import verify as verify
from cowherd.herd.trash.gc import Garbage as Garbage
from cowherd.herd.trash.gc import gc as gc
from cowherd.herd.trash.trash import (
    Restored as Restored,
)
from cowherd.herd.trash.trash import (
    empty_trash as empty_trash,
)
from cowherd.herd.trash.trash import (
    restore as restore,
)
from cowherd.herd.trash.trash import (
    trash as trash,
)
from cowherd.herd.trash.trash import (
    trashed as trashed,
)
from cowherd.image.disk import Disk as Disk
from cowherd.ops.check import CheckNotSupported as CheckNotSupported
from cowherd.ops.check import CheckReport as CheckReport
from cowherd.ops.check import check as check
from cowherd.ops.compare.compare import compare as compare
from cowherd.ops.compare.comparison import Comparison as Comparison
from cowherd.ops.compare.comparison import ReadFailed as ReadFailed
from cowherd.ops.info import (
    BackingLoop as BackingLoop,
)
from cowherd.ops.info import (
    ImageInfo as ImageInfo,
)
from cowherd.ops.info import (
    chain_info as chain_info,
)
from cowherd.ops.info import (
    image_info as image_info,
)
from cowherd.ops.inspect.inspector import Inspector as Inspector
from cowherd.ops.inspect.inspector import inspect as inspect
from cowherd.ops.inspect.report import Inspection as Inspection
from cowherd.ops.measure import Measurement as Measurement
from cowherd.ops.measure import measure as measure
from cowherd.ops.rebase.rebased import NewBackingFileError as NewBackingFileError
from cowherd.storage.protection import Protection as Protection
from cowherd.urls import Url as Url
