"""The errors that only the guard raises; those of the gate, `BaseInUse` and `BaseSealed`, are in `cowherd.errors`."""

from __future__ import annotations

from cowherd.errors import BaseInUse, CowherdError, preview
from cowherd.paths import as_path
from cowherd.text import counted, overlays_depend, printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cowherd.paths import PathName


_NOTHING_SAYS = "nothing says what it held before. 'cowherd seal' seals it as it is now"


class NotSealed(CowherdError):
    """A command needs the seal of an image that has none. Attribute: `image`. `meaning` says what follows from that."""

    def __init__(self, image: PathName, meaning: str = _NOTHING_SAYS):
        self.image, self._meaning = as_path(image), meaning

    def facts(self) -> dict[str, object]:
        """Returns the image."""
        return {"image": self.image}

    def __str__(self) -> str:
        return f"{printable(self.image)} is not sealed: {self._meaning}"


class DriftFound(CowherdError):
    """An image differs, or may differ, from its seal. Attributes: `image`, `status` (verify's), `action` (refused)."""

    exit_code = 4

    def __init__(self, image: PathName, status: str, action: str):
        self.image, self.status, self.action = as_path(image), status, action

    def __str__(self) -> str:
        return (
            f"{printable(self.image)} is {self.status}: refusing to {self.action}. 'cowherd verify --full' says whether its "
            f"content changed, and with --refresh records that it did not; 'cowherd repair' brings it back"
        )


class ContentChanging(CowherdError):
    """A file changed while it was read, so that what was read proves nothing. Attribute: `path`."""

    def __init__(self, path: PathName):
        self.path = as_path(path)

    def __str__(self) -> str:
        return f"{printable(self.path)} changed while it was read; find out who writes to it and try again"


class BindingImpossible(CowherdError):
    """An overlay can't record a binding. Attributes: `overlay`, `problem`."""

    def __init__(self, overlay: PathName, problem: str):
        self.overlay, self.problem = as_path(overlay), problem

    def __str__(self) -> str:
        return f"{printable(self.overlay)} can't record a binding: {self.problem}"


class BindingContradicted(CowherdError):
    """An overlay is bound to other content than its base holds. Attributes: `overlay`, `base`, `action` (what was refused)."""

    exit_code = 4

    def __init__(self, overlay: PathName, base: PathName, action: str = "bind it"):
        self.overlay, self.base, self.action = as_path(overlay), as_path(base), action

    def __str__(self) -> str:
        return (
            f"{printable(self.overlay)} was made on other content than {printable(self.base)} holds: refusing to {self.action}, "
            f"which would do away with the only witness. 'cowherd move --repair' looks for the base it was made on; 'cowherd "
            f"bind --rebind' declares that the one that is there is right"
        )


class HerdNotReadable(CowherdError):
    """Files of the herd could not be read, and any of them may be an overlay that cowherd does not know.

    Attributes: `base`, `action` (what was refused, as in "merge into"), `unreadable`.
    """

    exit_code = 3

    def __init__(self, base: PathName, action: str, unreadable: Sequence[PathName]):
        self.base, self.action = as_path(base), action
        self.unreadable = tuple(as_path(path) for path in unreadable)

    def __str__(self) -> str:
        return (
            f"refusing to {self.action} {shown(self.base)}: "
            f"{counted(len(self.unreadable), 'file or directory', 'files or directories')} of the herd can't be read, "
            f"{preview(self.unreadable)}, and an overlay among them would be harmed. Run it as a user who may read "
            f"them, or leave them out of account with --ignore-unreadable"
        )


class OverlaysUnseen(CowherdError):
    """Overlays of an image are known to lie in a place that can't be read now.

    Attributes: `base`, `action` (what was refused, as in "resize"), `unseen` (pairs: the place, and why it can't be looked at).
    """

    exit_code = 3

    def __init__(self, base: PathName, action: str, unseen: Sequence[tuple[str, str]]):
        self.base, self.action, self.unseen = as_path(base), action, tuple(unseen)

    def __str__(self) -> str:
        place, problem = self.unseen[0]
        more = f" (and {len(self.unseen) - 1} more)" if len(self.unseen) > 1 else ""
        return (
            f"refusing to {self.action} {shown(self.base)}: overlays of it are known to lie in {printable(place)}{more}, which "
            f"can't be looked at: {problem}. Mount it, or run this as a user who may look there; 'cowherd herd forget "
            f"{printable(place)}' gives those overlays up, and --ignore-unreadable (of cowherd-img --break-dependents) goes on "
            f"without them this once"
        )


class AwaitedInTrash(BaseInUse):
    """Overlays in the trash, which may come back, need an image. Attributes: `base`, `dependents`."""

    def __init__(self, base: PathName, dependents: Sequence[PathName], action: str = "delete for good"):
        super().__init__(base, action, dependents)

    def __str__(self) -> str:
        return (
            f"refusing to {self.action} {shown(self.base)}: "
            f"{counted(len(self._dependents), 'overlay in the trash stands', 'overlays in the trash stand')} on it, "
            f"{preview(self._dependents)}. 'cowherd trash restore' brings them back, 'cowherd trash empty' gives them up"
        )


class FormatDisputed(CowherdError):
    """Overlays record one base in different formats, so that its content is not known.

    Attributes: `base`, `action` (what was refused), `recorded` (pairs: a format, and one overlay that records it).
    """

    exit_code = 4

    def __init__(self, base: PathName, action: str, recorded: Sequence[tuple[str, str]]):
        self.base, self.action, self.recorded = as_path(base), action, tuple(recorded)

    def __str__(self) -> str:
        said = ", ".join(f"{shown(overlay)} says {printable(name)}" for name, overlay in self.recorded)
        return (
            f"refusing to {self.action} {shown(self.base)}: its overlays record it in different formats ({said}), and what is "
            f"written by one of them ruins it for the others. Put the wrong one right: cowherd-img rebase -u -b BASE -F FORMAT"
        )


class UnsealRefused(BaseInUse):
    """Overlays depend on the base whose seal was to be removed. Attributes: `base`, `dependents`."""

    def __init__(self, base: PathName, dependents: Sequence[PathName]):
        super().__init__(base, "unseal", dependents)

    def __str__(self) -> str:
        return (
            f"refusing to unseal {shown(self.base)}: {overlays_depend(len(self._dependents))} on it, "
            f"{preview(self._dependents)}. 'cowherd unseal --force' gives up what keeps them safe"
        )


class DonorMissing(CowherdError):
    """No donor holds some of the sealed blocks. Attributes: `base`, `missing_bytes`, `tried` (the donors that were searched)."""

    exit_code = 4

    def __init__(self, base: PathName, missing_bytes: int, tried: Sequence[PathName]):
        self.base, self.missing_bytes = as_path(base), missing_bytes
        self.tried = tuple(as_path(path) for path in tried)

    def __str__(self) -> str:
        looked = f"looked through {preview(self.tried)}" if self.tried else "no donor was found"
        return (
            f"{printable(self.base)}: {self.missing_bytes} bytes of sealed content are found nowhere ({looked}); nothing was "
            f"changed. Name an image that still holds them with --from"
        )


class RepairFailed(CowherdError):
    """A repair wrote to a base, which still does not hold its sealed content. Attribute: `base`."""

    exit_code = 4

    def __init__(self, base: Path):
        super().__init__(
            f"{printable(base)}: the blocks that were written do not read back as sealed; the disk or the image is damaged"
        )
        self.base = base


class NameTaken(CowherdError):
    """Another file has the name that a record of an image needs.

    Attributes: `path` (of that file), `what` (the record: "seal", "shadow", "journal of a merge"), `image`.
    """

    def __init__(self, path: PathName, what: str, image: PathName):
        self.path, self.what, self.image = as_path(path), what, as_path(image)

    def __str__(self) -> str:
        return (
            f"{shown(self.path)} has the name that the {self.what} of {shown(self.image)} would have, and is something else; "
            f"nothing was changed. Give one of the two another name ('cowherd rename' moves an image with all that names it)"
        )


class ProtectedByOthers(CowherdError):
    """Somebody other than cowherd made a file immutable. Attributes: `path`, `action` (what was refused)."""

    def __init__(self, path: PathName, action: str, *, forceable: bool = False):
        self.path, self.action, self._forceable = as_path(path), action, forceable

    def __str__(self) -> str:
        force = ", --force goes on without that" if self._forceable else ""
        return (
            f"refusing to {self.action} {shown(self.path)}: it is immutable, and cowherd did not make it so. An administrator "
            f"may have, or Proxmox, which does it to templates. 'chattr -i {shown(self.path)}' takes that away{force}"
        )

    def facts(self) -> dict[str, object]:
        """Returns the attributes."""
        return {"path": self.path, "action": self.action}


class RecordNotTrusted(CowherdError):
    """A record asks for what its author may not do, or its author is not known for certain. Attributes: `path`, `problem`."""

    def __init__(self, path: PathName, problem: str):
        self.path, self.problem = as_path(path), problem

    def __str__(self) -> str:
        return f"{shown(self.path)} was left alone: {self.problem}"
