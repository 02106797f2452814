"""Keeping an overlay's binding true after cowherd itself has given it another base, or changed its base on request."""

from __future__ import annotations

import contextlib
import os

from cowherd.formats import registry
from cowherd.herd.lineage.book.seals import remember_overlay
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.records.binding import Binding, write_binding
from cowherd.herd.records.header import Head, read_image
from cowherd.herd.seals.quick_check import condition, record_of
from cowherd.storage.identity import FileIdentity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.paths import PathName


def rebind(overlay: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Binds an overlay to the seal of the base that it stands on now; it loses its binding if there is no seal that holds.

    For an overlay whose content was right on that base a moment ago. Raises as `cowherd.herd.records.binding.write_binding`.
    """
    lineage = survey_around(overlay, herd=herd)
    image = lineage.find(overlay)
    base = lineage.parent(image)
    record = record_of(base) if base and condition(lineage, base).status.holds else None
    binding = Binding.to(record) if record else None
    if registry.named(image.format).extensions and image.binding != binding:
        write_binding(image.filename, binding)
    if base and record:
        remember_overlay(base, image.filename)


@contextlib.contextmanager
def unbound(overlay: PathName, base: PathName) -> Iterator[None]:
    """Takes the binding of an overlay away while the block changes what it is about, the base.

    Killed amid that, the overlay would be bound to what nobody has any more. If the block fails with the base unchanged, the
    binding is put back.
    """
    head = read_image(os.fspath(overlay)).content
    binding = head.binding if isinstance(head, Head) else None
    if binding is None:
        yield
        return
    before = FileIdentity.of(base)
    write_binding(overlay, None)
    try:
        yield
    except BaseException:
        if FileIdentity.of(base) == before:
            write_binding(overlay, binding)
        raise
