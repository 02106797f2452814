"""The chain that a merge is about: the image to merge into, what lies above it, and what the overlay stands on afterwards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cowherd.errors import InvalidRequest
from cowherd.herd.merge.plan import PRESERVE
from cowherd.text import shown

if TYPE_CHECKING:
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.plan import MergePlan
    from cowherd.paths import PathName


def find_target(lineage: Lineage, top: Image, into: PathName | None) -> Image:
    """Returns the image to merge into. Raises `InvalidRequest` if it is not below the overlay, or the chain is not whole."""
    chain = lineage.chain(top)
    broken = lineage.broken(chain[-1])
    if lineage.in_loop(top) or broken:
        problem = f"{shown(broken.name)}: {broken.problem}" if broken else "it is a loop"
        raise InvalidRequest(f"the chain of {shown(top.path)} can't be followed: {problem}")
    if into is None:
        if len(chain) < 2:
            raise InvalidRequest(f"{shown(top.path)} has no backing file to merge into")
        return chain[1]
    target = lineage.find(into)
    if target.key not in [image.key for image in chain[1:]]:
        raise InvalidRequest(f"{shown(top.path)} does not stand on {shown(into)}")
    return target


def images_above(lineage: Lineage, top: Image, base: Image) -> list[Image]:
    """Returns `top` and what lies between it and `base`. Raises `InvalidRequest` if `top` does not (or no longer) stand on it."""
    chain = lineage.chain(top)
    keys = [image.key for image in chain]
    if base.key not in keys:
        raise InvalidRequest(f"{shown(top.path)} does not stand on {shown(base.path)}")
    return chain[: keys.index(base.key)]


def stands_on(lineage: Lineage, overlay: Image, base: Image) -> bool:
    """Returns whether `base` is what `overlay` itself names as its backing file."""
    parent = lineage.parent(overlay)
    return parent is not None and parent.key == base.key


def new_base_of(plan: MergePlan) -> Image:
    """Returns the image that holds the overlay's content afterwards: the base, or the new one, which need not exist yet."""
    if plan.strategy == PRESERVE:
        return plan.base
    return plan.base._replace(key=(-1, -1), filenames=(os.fspath(plan.fork),))
