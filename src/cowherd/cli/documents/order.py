"""The documents of the commands that put in order, and of `serve`."""

from __future__ import annotations

from typing import Any, TypedDict

from cowherd.cli.documents.shared import Bytes, Path


class Moved(TypedDict):
    """An image that has another name."""

    source: Path  #: its former name
    target: Path  #: its name
    overlays: list[Path]  #: those whose backing names were rewritten
    copied_bytes: Bytes  #: how much was copied
    done: bool  #: false: --dry-run


class RelinkedOverlay(TypedDict):
    """An overlay whose base was not where it said."""

    overlay: Path  #: the overlay
    base: Path | None  #: where its base was found
    name: str | None  #: the backing name that it has now
    by_content: bool  #: whether the base was found by its content
    problem: str | None  #: why it was not


class Relinked(TypedDict):
    """The answer to `move --repair`."""

    overlays: list[RelinkedOverlay]  #: each of them
    done: bool  #: false: --dry-run


class DeletedImage(TypedDict):
    """An image that was deleted."""

    path: Path  #: where it was
    id: str | None  #: names it in the trash; null with `--purge`
    freed_bytes: Bytes  #: what that has freed


class Deleted(TypedDict):
    """The answer to `delete`."""

    deleted: list[DeletedImage]  #: overlays before their bases


class Herds(TypedDict):
    """The answer to `herd list`."""

    herds: list[Path]  #: the directories


class HerdNamed(TypedDict):
    """The answer to `herd add` and `herd remove`."""

    herd: Path  #: the directory
    file: Path | None  #: the file that was changed; null: none needed to be


class HerdForgotten(TypedDict):
    """The answer to `herd forget`."""

    directory: Path  #: the directory
    forgotten: int  #: how many places with overlays were forgotten


class ServiceSettings(TypedDict):
    """The answer to `serve --check-config`."""

    settings: dict[str, Any]  #: each setting by its name


class Token(TypedDict):
    """The answer to `serve --new-token`."""

    token: str  #: what the caller has to send
    project: str  #: the caller's project
    roles: list[str]  #: the caller's roles


class ServiceFinding(TypedDict):
    """Something that is not as it should be in a service."""

    kind: str  #: what
    problem: str  #: a sentence
    store: str | None  #: the store
    blob: str | None  #: the content's digest
    image: str | None  #: the image's id
    repaired: bool  #: whether it was put right


class ServiceChecked(TypedDict):
    """The answer to `serve --fsck`."""

    findings: list[ServiceFinding]  #: all of them
    left: int  #: how many are left that matter


class ServiceRebuilt(TypedDict):
    """The answer to `serve --rebuild`."""

    images: int  #: how many are recorded
    blobs: int  #: how many contents are
    problems: list[str]  #: sentences about what is not


class Served(TypedDict):
    """What `serve` tells when it is ended."""

    served: Path  #: its directory


class Version(TypedDict):
    """The answer to `cowherd --version`."""

    version: str  #: the program's name and version


class GlanceImage(TypedDict):
    """What became of an image of a Glance."""

    image: str  #: its id
    name: str | None  #: its name
    status: str  #: its state in Glance
    result: str  #: adopted, recorded, waiting, known, deleted or failed
    how: str | None  #: how its content came here: shared, linked, copied or on the web
    size: int | None  #: the bytes of its content
    problem: str | None  #: what does not fit, as a sentence


class GlanceNamespace(TypedDict):
    """What became of a namespace of the metadata definitions of a Glance."""

    namespace: str  #: its name
    result: str  #: adopted, known or failed
    problem: str | None  #: why it could not be kept


class GlanceAdopted(TypedDict):
    """The answer to `serve --adopt-glance`."""

    images: list[GlanceImage]  #: all of them
    namespaces: list[GlanceNamespace]  #: all of them
    problems: int  #: how many do not fit
    dry_run: bool  #: whether nothing was changed
