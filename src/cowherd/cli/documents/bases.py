"""The documents of the commands that keep bases whole."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from cowherd.cli.documents.shared import Bytes, Digest, Level, Path, Problem, Verdict


class Sealed(TypedDict):
    """A seal that was made, or was there."""

    image: Path  #: the base
    seal: Path  #: the seal's file
    content_digest: Digest  #: that of its content
    seal_id: Digest  #: names the seal
    generation: int  #: 1, and one more for each seal of new content
    size: Bytes  #: the size of its disk
    format: str  #: its format
    level: Level  #: the protection that was reached
    wanted_level: Level  #: the protection that was asked for
    shadow: str | None  #: the name of a reflink copy
    shadow_problem: str | None  #: why there is none though one was asked for
    anew: bool  #: false: it was sealed before, and its content is the same
    signed_by: Digest | None  #: the public key of the signature
    bound: list[Path]  #: overlays that were bound now
    not_bound: list[Problem]  #: overlays that were not, and why


class Unsealed(TypedDict):
    """A seal that was given up."""

    image: Path  #: the image
    seal: Path  #: the former seal


class Adopted(TypedDict):
    """An overlay that others made."""

    overlay: Path  #: the overlay
    base: Path | None  #: what it stands on
    bound: bool  #: whether it has a binding now
    content_digest: Digest | None  #: that of what it is bound to
    sealed_now: bool  #: whether its base was sealed for it
    format_recorded: str | None  #: the base's format, if that was recorded now
    problem: str | None  #: why it was not bound


class Bound(TypedDict):
    """The overlays that had no binding."""

    overlays: list[Adopted]  #: each of them


class BlockHitSnapshot(TypedDict):
    """An internal snapshot of an overlay."""

    id: str  #: its id in the image
    name: str  #: its name
    verdict: Verdict  #: how it is hit


class BlockHit(TypedDict):
    """What a change of a base does to an overlay, in amounts."""

    path: Path  #: the overlay
    verdict: Verdict  #: how it is hit
    exposed_bytes: Bytes  #: how much of the change it shows
    shielded_bytes: Bytes  #: how much it does not
    snapshots: list[BlockHitSnapshot]  #: its internal snapshots
    open_in: list[int]  #: process ids of those that have it open
    problem: NotRequired[str]  #: why it can't be read


class WatchedBase(TypedDict):
    """A sealed image that `watch --once` has read."""

    path: Path  #: the image
    outcome: str  #: what was found
    detail: str  #: a sentence
    blocks: int | None  #: how many blocks differ
    changed_bytes: Bytes  #: how much differs
    overlays: list[BlockHit]  #: what that does to each overlay
    contradicted: list[Path]  #: overlays that are bound to other content


class WatchedOnce(TypedDict):
    """The answer to `watch --once`."""

    bases: list[WatchedBase]  #: all sealed images
    fine: bool  #: whether all are as sealed


class Watched(TypedDict):
    """What a watch tells when it is ended. Its events are told while it runs: see [the watch](watch.md)."""

    directories: list[Path]  #: what was watched
    events: dict[str, int]  #: how many events of each kind there were


class Pushed(TypedDict):
    """An image of a push."""

    path: Path  #: its file
    name: str  #: its name at the service
    image_id: str | None  #: its id there; null: it has none yet
    size: Bytes  #: the size of its file
    sent: bool  #: whether it was sent, or would be


class Push(TypedDict):
    """An image that was sent, after all that it stands on."""

    images: list[Pushed]  #: bases before their overlays
    done: bool  #: false: --dry-run


class Pulled(TypedDict):
    """An image of a pull."""

    image_id: str  #: its id at the service
    name: str  #: its name there
    path: Path  #: its file here
    size: Bytes  #: the size of its file
    fetched: bool  #: whether it was fetched, or would be


class Pull(TypedDict):
    """An image that was fetched, with all that it stands on."""

    images: list[Pulled]  #: bases before their overlays
    done: bool  #: false: --dry-run


class ServiceImages(TypedDict):
    """The images of a service."""

    images: list[dict[str, Any]]  #: each as the service tells it, newest first


class HookInstalled(TypedDict):
    """The answer to `hook install`."""

    path: Path  #: the script
    done: bool  #: false: --dry-run
    replaced: bool  #: whether an older one was there
    reload_needed: bool  #: whether libvirt has to be told
    notes: list[str]  #: what standard error says
    script: str  #: its text


class HookRemoved(TypedDict):
    """The answer to `hook uninstall`."""

    removed: list[Path]  #: the scripts
    done: bool  #: false: --dry-run


class HookStatus(TypedDict):
    """The answer to `hook status`."""

    path: Path  #: where the script is to be
    installed: bool  #: whether it is
    on_error: Literal["refuse", "warn"] | None  #: what it does if the check itself fails
    problem: str | None  #: why it does not work
