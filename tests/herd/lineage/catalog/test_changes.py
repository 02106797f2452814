"""Whatever happens to a herd, a scan with the catalog says what a scan without it says.

COWHERD_EXAMPLES=500 tries that many courses of events instead of a few.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bench.herds import header, write_image
from cowherd.herd.lineage.catalog import catalog
from cowherd.herd.seals.seal import seal
from tests.herd.lineage.catalog.watching import TICK_NS, facts, settle, without_catalog

NAMES = st.sampled_from(["a", "b", "c", "sub/a", "sub/d"])
BACKINGS = st.sampled_from(["", "a", "b", "../a", "sub/d", "gone", "json:{}"])
FORMATS = st.sampled_from(["qcow2", "raw", ""])


class Herd(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.herd = self.top / "herd"
        (self.herd / "sub").mkdir(parents=True)
        self.patches = [
            mock.patch.dict(os.environ, COWHERD_CATALOG=str(self.top / "catalog")),
            mock.patch.object(catalog, "WORTHWHILE", 0),
            mock.patch.object(catalog, "SETTLED_NS", TICK_NS),
        ]
        for patch in self.patches:
            patch.start()

    def teardown(self) -> None:
        for patch in getattr(self, "patches", []):
            patch.stop()
        if hasattr(self, "top"):
            shutil.rmtree(self.top)

    @rule(name=NAMES, backing=BACKINGS, recorded=FORMATS)
    def write(self, name: str, backing: str, recorded: str) -> None:
        """Creates an image or rewrites one in place; all have the same length."""
        try:
            write_image(self.herd / name, header(backing, recorded))
        except OSError as error:
            if error.errno != errno.ELOOP:  # the name is that of a symbolic link to itself
                raise

    @rule(name=NAMES, backing=BACKINGS)
    def rewrite_and_set_times_back(self, name: str, backing: str) -> None:
        path = self.herd / name
        if path.exists():
            before = path.stat()
            write_image(path, header(backing))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(name=NAMES, backing=BACKINGS)
    def replace_with_times_of_the_old(self, name: str, backing: str) -> None:
        path = self.herd / name
        write_image(self.top / "new", header(backing))
        if path.exists():
            before = path.stat()
            os.utime(self.top / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
        (self.top / "new").replace(path)

    @rule(name=NAMES, content=st.sampled_from([b"", b"QFI\xfb", b"x" * 4096, header()[:100], header("a")[:80] + b"\xff" * 99]))
    def write_something_else(self, name: str, content: bytes) -> None:
        path = self.herd / name
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    @rule(name=NAMES)
    def damage(self, name: str) -> None:
        """One byte changes, as with a bit that rots, but through the file system."""
        if (self.herd / name).exists():
            with (self.herd / name).open("r+b") as file:
                file.seek(23)
                file.write(b"\x3f")

    @rule(name=NAMES, other=NAMES)
    def rename(self, name: str, other: str) -> None:
        if os.path.lexists(self.herd / name):
            (self.herd / name).replace(self.herd / other)

    @rule(name=NAMES, other=NAMES)
    def exchange(self, name: str, other: str) -> None:
        if name != other and all(os.path.lexists(self.herd / one) for one in (name, other)):
            (self.herd / name).rename(self.top / "between")
            (self.herd / other).rename(self.herd / name)
            (self.top / "between").rename(self.herd / other)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.herd / name).unlink(missing_ok=True)

    @rule(name=NAMES, other=NAMES, how=st.sampled_from([os.symlink, os.link]))
    def link(self, name: str, other: str, how) -> None:
        if not os.path.lexists(self.herd / other) and (how is os.symlink or (self.herd / name).exists()):
            how(self.herd / name, self.herd / other)

    @rule(name=NAMES, mode=st.sampled_from([0o000, 0o444, 0o644]))
    def change_permissions(self, name: str, mode: int) -> None:
        if (self.herd / name).exists():
            (self.herd / name).chmod(mode)

    @rule(name=NAMES)
    def seal_quickly(self, name: str) -> None:
        """A seal as of an image without a base; it need not fit."""
        path = self.top / "sealed"
        write_image(path, header())
        shutil.move(seal(path, force=True).seal, f"{self.herd / name}.seal")

    @rule(name=NAMES, content=st.sampled_from([b"", b"cowseal\n" * 20]))
    def damage_seal(self, name: str, content: bytes) -> None:
        path = Path(f"{self.herd / name}.seal")
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    @rule(name=NAMES)
    def unseal(self, name: str) -> None:
        Path(f"{self.herd / name}.seal").unlink(missing_ok=True)

    @rule()
    def move_directory(self) -> None:
        (self.herd / "sub").rename(self.herd / "moved")
        (self.herd / "sub").mkdir()
        for path in sorted((self.herd / "moved").iterdir()):
            path.rename(self.herd / "sub" / path.name)
        (self.herd / "moved").rmdir()

    @rule()
    def time_passes(self) -> None:
        settle()

    @rule()
    def damage_catalog(self) -> None:
        path = self.top / "catalog"
        if path.exists():
            with path.open("r+b") as file:
                file.seek(5000)
                file.write(b"\xaa" * 700)

    @invariant()
    def the_catalog_changes_nothing(self) -> None:
        if not hasattr(self, "herd"):
            return
        with without_catalog():
            expected = facts(self.herd)
        assert facts(self.herd) == expected


Herd.TestCase.settings = settings(
    max_examples=int(os.environ.get("COWHERD_EXAMPLES", "15")), stateful_step_count=25, deadline=None
)
TestHerd = Herd.TestCase
