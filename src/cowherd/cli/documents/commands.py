"""Which documents each command of `cowherd` has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.documents import bases, look, order, overlays, repairs, shared

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENTS: Mapping[str, tuple[type, ...]] = {
    "--version": (order.Version,),
    "status": (look.Standing,),
    "tree": (look.Tree,),
    "show": (look.Shown,),
    "doctor": (look.Diagnosis,),
    "verify": (look.Check,),
    "impact": (look.Impact,),
    "ps": (look.Processes,),
    "report": (look.Page, look.ServedPage),
    "inspect": (look.Inspection,),
    "log": (look.History,),
    "gc": (look.Garbages,),
    "seal": (bases.Sealed,),
    "unseal": (bases.Unsealed,),
    "bind": (bases.Bound,),
    "watch": (bases.Watched, bases.WatchedOnce, shared.Written),
    "push": (bases.Push,),
    "pull": (bases.Pull,),
    "images": (bases.ServiceImages,),
    "hook": (shared.Start, bases.HookInstalled, bases.HookRemoved, bases.HookStatus),
    "run": (shared.Start,),
    "repair": (repairs.Repaired,),
    "recover": (repairs.Recovered,),
    "trash": (repairs.Trashed, repairs.Restored, repairs.Emptied),
    "clone": (overlays.Cloned,),
    "merge": (overlays.Merged,),
    "promote": (overlays.Promoted,),
    "flatten": (overlays.Rebased,),
    "retarget": (overlays.Retargeted,),
    "move": (order.Moved, order.Relinked),
    "rename": (order.Moved,),
    "delete": (order.Deleted,),
    "herd": (order.Herds, order.HerdNamed, order.HerdForgotten),
    "serve": (
        *(order.Served, order.ServiceSettings, order.Token, order.ServiceChecked, order.ServiceRebuilt, order.GlanceAdopted),
        shared.Written,
    ),
}
"""The classes of what a command may print, by its name."""

OF_EACH = ("show", "impact", "inspect", "seal", "unseal", "repair")
"""The commands that print {"images": [...]} where several images or a directory are named: a document or a failure for each."""
