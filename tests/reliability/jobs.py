"""Every job of cowherd's that writes, as a command line on a small herd that it is prepared for."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cowherd import api
from cowherd.cli.guard import main as guard
from cowherd.cli.img import main as img
from cowherd.storage.protection import Protection
from tests.reliability.calls import interposed

KIB = 1 << 10
SIZE = 256 * KIB
SMALL = {"cluster_size": "4k"}


@dataclass(frozen=True)
class Job:
    """One command.

    `command`: "img" or "guard" and the words behind it, in which "{}" stands for the herd's directory. `raw`: names of raw
    images.
    `scrap`: names of images that are made anew from the first write on, so that nothing is promised of them until the end.
    `not_again`: names that a second run does not make where the first was interrupted before it did.
    `again`: how the same command may end when it is given once more after the job was done in full.
    """

    name: str
    prepare: Callable[[Path], None]
    command: tuple[str, ...]
    raw: frozenset[str] = frozenset()
    scrap: frozenset[str] = frozenset()
    again: tuple[int, ...] = (0,)
    not_again: frozenset[str] = frozenset()

    def run(self, root: Path) -> Outcome:
        """Carries the command out in `root`."""
        return run(root, *self.command)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, and what it printed on standard output and standard error."""

    code: int
    out: str
    err: str


def run(root: Path, program: str, *words: str) -> Outcome:
    """Runs a command line in this process; an exception that `main` lets through goes on."""
    words = tuple(word.replace("{}", os.fspath(root)) for word in words)
    if program == "writes":
        return _write_as_guest(root / words[0])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = guard.main(words) if program == "guard" else img.main(["cowherd-img", *words])
        except SystemExit as ending:
            code = int(ending.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def noise(length: int, seed: object) -> bytes:
    """Bytes without zeros in them."""
    return random.Random(str(seed)).randbytes(length).replace(b"\0", b"\1")


def _image(path: Path, size: int | None = SIZE, *writes: tuple[int, int], backing: str | None = None) -> Path:
    backing_format = "qcow2" if backing else None
    api.create(path, size, options=SMALL, backing=backing, backing_format=backing_format, break_dependents=True)
    with api.open(path, writable=True) as disk:
        for number, (offset, length) in enumerate(writes):
            disk.write(offset, noise(length, f"{path.name} {number}"))
    return path


def small_herd(root: Path) -> None:
    """A base, two overlays of it, and an overlay of the first."""
    _image(root / "base", SIZE, (0, 150 * KIB), (200 * KIB, 20 * KIB))
    _image(root / "one", None, (10 * KIB, 30 * KIB), (180 * KIB, 5000), backing="base")
    _image(root / "two", None, (30 * KIB, 30 * KIB), (240 * KIB, 5000), backing="base")
    _image(root / "deep", None, (20 * KIB, 3000), (100 * KIB, 9000), backing="one")


def pair(root: Path) -> None:
    """A base and one overlay."""
    _image(root / "base", SIZE, (0, 150 * KIB))
    _image(root / "one", None, (10 * KIB, 30 * KIB), (180 * KIB, 5000), backing="base")


def alone(root: Path) -> None:
    """One image, and another that is to be written over."""
    _image(root / "disk", SIZE, (0, 100 * KIB), (200 * KIB, 20 * KIB))
    _image(root / "other", SIZE, (50 * KIB, 100 * KIB))


def raw_disk(root: Path) -> None:
    """A raw image."""
    (root / "disk").write_bytes(noise(100 * KIB, "raw").ljust(SIZE, b"\0"))


def sealed_herd(root: Path) -> None:
    """The small herd, sealed and bound; one overlay has a seal of its own."""
    small_herd(root)
    api.seal(root / "base", level=Protection.READONLY, bind=True)
    api.seal(root / "two")


def shadowed(root: Path) -> None:
    """The small herd with a shadow of its base."""
    small_herd(root)
    api.seal(root / "base", shadow=True, bind=True)


def drifted(root: Path) -> None:
    """A sealed base that somebody wrote to, and a copy of it from before."""
    small_herd(root)
    api.convert(root / "base", root / "copy", target_format="qcow2", options=SMALL)
    api.seal(root / "base", bind=True)
    with api.open(root / "base", writable=True, break_dependents=True) as disk:
        disk.write(60 * KIB, noise(50 * KIB, "drift"))


def two_bases(root: Path) -> None:
    """Two sealed bases that differ a little, and overlays of the first."""
    small_herd(root)
    api.convert(root / "base", root / "newer", target_format="qcow2", options=SMALL)
    with api.open(root / "newer", writable=True) as disk:
        disk.write(80 * KIB, noise(20 * KIB, "newer"))
    api.seal(root / "base", bind=True)
    api.seal(root / "newer")


def unsealed_bases(root: Path) -> None:
    """Two bases that differ a little, and an overlay of the first."""
    pair(root)
    _image(root / "newer", SIZE, (40 * KIB, 150 * KIB))


def moved_by_hand(root: Path) -> None:
    """A sealed herd whose base lies somewhere else now."""
    sealed_herd(root)
    (root / "there").mkdir()
    os.rename(root / "base", root / "there" / "base")


def with_directory(root: Path) -> None:
    """The sealed herd, and an empty directory."""
    sealed_herd(root)
    (root / "there").mkdir()


def deleted(root: Path) -> None:
    """The sealed herd with an overlay in the trash."""
    sealed_herd(root)
    api.trash([root / "two"])


def littered(root: Path) -> None:
    """The sealed herd, and leftovers that are old enough."""
    sealed_herd(root)
    for name in (".cowherd-0123456789abcdef", "gone.shadow"):
        (root / name).write_bytes(b"left")
        os.utime(root / name, (1, 1))


def interrupted(root: Path) -> None:
    """A merge that stopped in the middle of changing the base."""
    small_herd(root)
    api.seal(root / "base", bind=True)
    base = os.stat(root / "base").st_ino
    seen = []

    def stop(name, call, arguments, options):
        if name == "pwritev" and os.fstat(arguments[0]).st_ino == base:
            seen.append(name)
            if len(seen) > 3:
                raise OSError(28, "No space left on device")
        return call(*arguments, **options)

    with interposed(stop), contextlib.suppress(api.MergeInterrupted):
        api.merge(root / "one", strategy="preserve")
    assert (root / "base.merge").exists()


def leaking(root: Path) -> None:
    """An image with a cluster that nobody uses."""
    alone(root)
    _set_refcount(root / "disk", os.path.getsize(root / "disk") // 4096, 1)


def _set_refcount(path: Path, cluster: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(48)
        table = struct.unpack(">Q", file.read(8))[0]
        file.seek(table)
        block = struct.unpack(">Q", file.read(8))[0]
        file.seek(block + 2 * cluster)
        file.write(struct.pack(">H", count))
        file.seek(cluster * 4096 + 4095)
        file.write(b"\0")


def _write_as_guest(image: Path) -> Outcome:
    """Guest requests of all kinds. Each byte is written once, so that it is old or new."""
    with api.open(image, writable=True, break_dependents=True) as disk:
        disk.write(5000, noise(20000, "a"))
        disk.zero(40 * KIB, 9000)
        disk.flush()
        disk.discard(64 * KIB, 16 * KIB)
        disk.write(110 * KIB, noise(3 * KIB, "b"))
        disk.write_compressed(120 * KIB, noise(2 * KIB, "c") * 2)
        disk.zero(200 * KIB, 8 * KIB, unmap=True)
        disk.flush()
        disk.write(230 * KIB, noise(20 * KIB, "d"))
    return Outcome(0, "", "")


def _img(name: str, prepare: Callable[[Path], None], *words: str, **more: Sequence[object]) -> Job:
    return Job(f"img {name}", prepare, ("img", *words), **{key: _plain(value) for key, value in more.items()})


def _guard(name: str, prepare: Callable[[Path], None], *words: str, **more: Sequence[object]) -> Job:
    return Job(name, prepare, ("guard", *words), **{key: _plain(value) for key, value in more.items()})


def _plain(value: Sequence[object]) -> object:
    return frozenset(value) if all(isinstance(one, str) for one in value) else tuple(value)


_NEW = ("-f", "qcow2", "-o", "cluster_size=4k")
_OUT = ("-O", "qcow2", "-o", "cluster_size=4k")
_FORCE = "--break-dependents"

JOBS = (
    Job("guest writes", alone, ("writes", "disk")),
    Job("guest writes to an overlay", small_herd, ("writes", "one")),
    _img("create", alone, "create", *_NEW, "{}/new", "256k", scrap=["new"]),
    _img(
        "create, preallocated", alone, "create", *_NEW[:3], "cluster_size=4k,preallocation=full", "{}/new", "256k", scrap=["new"]
    ),
    _img("create over an image", alone, "create", *_NEW, "{}/other", "1M", scrap=["other"]),
    _img("create an overlay", small_herd, "create", *_NEW, "-b", "base", "-F", "qcow2", "{}/new", scrap=["new"]),
    _img("create raw", alone, "create", "-f", "raw", "{}/new", "256k", raw=["new"], scrap=["new"]),
    _img("resize, grow", alone, "resize", "-f", "qcow2", "{}/disk", "3M"),
    _img("resize, shrink", alone, "resize", "--shrink", "-f", "qcow2", "{}/disk", "64k"),
    _img("resize an overlay", pair, "resize", "-f", "qcow2", "{}/one", "300k"),
    _img("resize raw", raw_disk, "resize", "-f", "raw", "{}/disk", "1M", raw=["disk"]),
    _img("commit", pair, "commit", "-f", "qcow2", "{}/one"),
    _img("commit, dropped", pair, "commit", "-d", "-f", "qcow2", "{}/one"),
    _img("commit, deep", small_herd, "commit", _FORCE, "-f", "qcow2", "-b", "base", "{}/deep"),
    _img("commit into a sealed base", sealed_herd, "commit", _FORCE, "-f", "qcow2", "{}/one", again=(0, 1)),
    _img("convert", small_herd, "convert", "-f", "qcow2", *_OUT, "{}/deep", "{}/new", scrap=["new"]),
    _img("convert, compressed", small_herd, "convert", "-c", "-f", "qcow2", *_OUT, "{}/deep", "{}/new", scrap=["new"]),
    _img("convert to an overlay", small_herd, "convert", *_OUT, "-B", "base", "-F", "qcow2", "{}/deep", "{}/new", scrap=["new"]),
    _img("convert to raw", small_herd, "convert", "-O", "raw", "{}/deep", "{}/new", raw=["new"], scrap=["new"]),
    _img("convert over an image", alone, "convert", *_OUT, "{}/disk", "{}/other", scrap=["other"]),
    _img("convert into an image", alone, "convert", "-n", "-O", "qcow2", "{}/disk", "{}/other"),
    _img("rebase", unsealed_bases, "rebase", "-f", "qcow2", "-b", "newer", "-F", "qcow2", "{}/one"),
    _img("rebase onto nothing", small_herd, "rebase", _FORCE, "-f", "qcow2", "-b", "", "{}/deep"),
    _img("rebase, compressed", unsealed_bases, "rebase", "-c", "-f", "qcow2", "-b", "newer", "-F", "qcow2", "{}/one"),
    _img("rebase, unsafe", unsealed_bases, "rebase", "-u", "-f", "qcow2", "-b", "newer", "-F", "qcow2", "{}/one"),
    _img("dd", alone, "dd", "-O", "qcow2", "bs=4096", "count=20", "if={}/disk", "of={}/new", scrap=["new"]),
    _guard("clone", small_herd, "clone", "{}/base", "{}/new", again=(1,)),
    _guard("clone a sealed base", sealed_herd, "clone", "{}/base", "{}/new", again=(1,)),
    _guard("seal", small_herd, "seal", "--bind", "{}/base"),
    _guard("seal, protected", small_herd, "seal", "--level", "readonly", "--bind", "{}/base"),
    _guard("seal with a shadow", small_herd, "seal", "--shadow", "{}/base"),
    _guard("seal at another level", sealed_herd, "seal", "--level", "recorded", "{}/base"),
    _guard("unseal", sealed_herd, "unseal", "{}/two", again=(1,)),
    _guard("unseal by force", shadowed, "unseal", "--force", "{}/base", again=(1,)),
    _guard("bind", small_herd, "bind", "{}/one", "{}/two"),
    _guard("verify and refresh", moved_by_hand, "verify", "--full", "--refresh", "--herd", "{}", again=(4,)),
    _guard("merge, preserve", sealed_herd, "merge", "--strategy", "preserve", "{}/one", again=(1,)),
    _guard("merge, preserve, emptied", sealed_herd, "merge", "--strategy", "preserve", "--keep", "empty", "{}/one"),
    _guard("merge, preserve, kept", small_herd, "merge", "--strategy", "preserve", "--keep", "content", "{}/two"),
    _guard("merge, preserve, deep", sealed_herd, "merge", "--strategy", "preserve", "--into", "{}/base", "{}/deep", again=(1,)),
    _guard("merge, fork", sealed_herd, "merge", "--strategy", "fork", "{}/one", again=(1,)),
    _guard(
        "merge, fork, deep, emptied",
        small_herd,
        *["merge", "--strategy", "fork", "--keep", "empty", "--into", "{}/base", "{}/deep"],
        again=(0, 2),
    ),
    _guard("recover", interrupted, "recover", "{}"),
    _guard("move", with_directory, "move", "{}/base", "{}/there/base", again=(1,)),
    _guard("move an overlay", with_directory, "move", "{}/one", "{}/there", again=(1,)),
    _guard("rename", shadowed, "rename", "{}/base", "mother", again=(1,)),
    _guard("move --repair", moved_by_hand, "move", "--repair", "{}", not_again=["there/base.seal"]),
    _guard("repair", drifted, "repair", "--from", "{}/copy", "{}/base"),
    _guard("repair --preserve", drifted, "repair", "--preserve", "--from", "{}/copy", "{}/base"),
    _guard("retarget", two_bases, "retarget", "--onto", "{}/newer", "{}/one", "{}/two"),
    _guard("flatten", sealed_herd, "flatten", "{}/one"),
    _guard("promote", sealed_herd, "promote", "{}/deep", "{}/golden", again=(1,)),
    _guard("promote, chained", sealed_herd, "promote", "--chained", "{}/deep", "{}/golden", again=(1,)),
    _guard("delete", sealed_herd, "delete", "{}/two", again=(1,)),
    _guard("delete for good", sealed_herd, "delete", "--purge", "{}/deep", again=(1,)),
    _guard("trash restore", deleted, "trash", "restore", "{}/two", again=(2,)),
    _guard("trash empty", deleted, "trash", "empty", "{}"),
    _guard("gc", littered, "gc", "--clean", "{}", scrap=["gone.shadow"]),
)
