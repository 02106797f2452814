"""Binding an overlay to what its base's seal says, also after cowherd itself gave it another base, or changed its base."""

from __future__ import annotations

import contextlib
import os

from cowherd.formats import registry
from cowherd.formats.probe import probe
from cowherd.herd.lineage.book.seals import remember_overlay
from cowherd.herd.lineage.survey import survey_own_chain
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.binding import Binding, write_binding
from cowherd.herd.records.faults import BindingContradicted
from cowherd.herd.records.header import Head, read_image
from cowherd.herd.seals.quick_check import condition, record_of
from cowherd.live.holders import naming_holders
from cowherd.storage.durable import make_durable_if_recent
from cowherd.storage.holding import Holding
from cowherd.storage.identity import FileIdentity
from cowherd.storage.opening import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName
    from cowherd.storage.blocks import Opener


def bind(lineage: Lineage, overlay: Image, base: SealRecord, *, rebind: bool = False) -> None:
    """Records in the header of `overlay` that it stands on the content of a sealed base; one that says so already is left alone.

    Raises `BindingContradicted` where it was made on other content, unless `rebind`; and as `write_binding`, `keeping_seals`.
    """
    binding = Binding.to(base)
    parent = lineage.parent(overlay)
    if overlay.binding and overlay.binding.content_digest != base.content_digest and not rebind:
        raise BindingContradicted(overlay.path, parent.path if parent else overlay.path)
    if overlay.binding != binding:
        from cowherd.herd.seals.upkeep import keeping_seals

        with Holding() as held:
            require_free([overlay], held=held)
            with naming_holders(), keeping_seals(lineage, overlay):
                write_binding(overlay.path, binding, held.open)
    else:
        make_durable_if_recent(overlay.path)  # a killed run may have bound it in memory only
    if parent:
        remember_overlay(parent, overlay.filename)


def rebind(overlay: PathName, held: Holding) -> None:
    """Binds an overlay to the seal of the base that it stands on now; without a seal that holds, removes its binding.

    For an overlay whose content was right on that base a moment ago, and that the caller has `held`. Raises as
    `cowherd.herd.records.binding.write_binding`.
    """
    with contextlib.closing(held.open(overlay)) as file:
        image_format = probe(file)
    lineage = survey_own_chain(overlay, image_format)
    rebind_found(lineage, lineage.find(overlay), held.open)


def rebind_found(lineage: Lineage, overlay: Image, opener: Opener = open_file) -> None:
    """Does the same as `rebind` to an overlay of a known lineage."""
    base = lineage.parent(overlay)
    record = record_of(base) if base and condition(lineage, base).status.holds else None
    binding = Binding.to(record) if record else None
    if registry.named(overlay.format).extensions and overlay.binding != binding:
        write_binding(overlay.filename, binding, opener)
    if base and record:
        remember_overlay(base, overlay.filename)


@contextlib.contextmanager
def unbound(overlay: PathName, base: PathName, opener: Opener = open_file) -> Iterator[None]:
    """Removes the binding of an overlay while the block changes the base that the binding is about.

    A kill amid that would otherwise leave the overlay bound to content that nobody has any more. If the block fails with the base
    unchanged, the binding is put back.
    """
    head = read_image(os.fspath(overlay)).content
    binding = head.binding if isinstance(head, Head) else None
    if binding is None:
        yield
        return
    before = FileIdentity.of(base)
    write_binding(overlay, None, opener)
    try:
        yield
    except BaseException:
        if FileIdentity.of(base) == before:
            write_binding(overlay, binding, opener)
        raise
