"""Chains for tests of whole-image jobs: made by QEMU, copied, and given to both tools."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cowherd.formats.qcow2.image import Qcow2
from cowherd.image.open import open_disk
from tests.images import Features, Model, create_with_qemu, qemu_content, run_in_qemu, workload
from tests.qemu import Tool

DEFAULT = Features()


@dataclass(frozen=True)
class Member:
    """One image of a chain; `features` None means raw."""

    name: str
    size: int
    features: Features | None = DEFAULT
    backing: str | None = None
    seed: int = 0

    @property
    def format(self) -> str:
        return "qcow2" if self.features else "raw"


class Chain:
    """Images in a directory of their own, some standing on others by relative names; the last member is the top."""

    def __init__(self, directory: Path, *members: Member, requests: int = 8):
        self.directory, self.members = directory, members
        directory.mkdir()
        for number, member in enumerate(members):
            self._make(member, member.seed or number + 1, requests)

    def _make(self, member: Member, seed: int, number: int) -> None:
        path = self.directory / member.name
        if member.features is None:
            requests = workload(seed, Features(4096), member.size, number, ("write", "zero", "unmap")) if member.size else []
            Model(path, member.size).apply(requests)
            return
        backing_format = next((other.format for other in self.members if other.name == member.backing), "qcow2")
        under = None if member.backing is None else self.directory / member.backing
        create_with_qemu(path, member.features, member.size, backing=under, backing_format=backing_format)
        if under is not None:  # a name that stays right in the copies
            Tool("qemu-img")("rebase", "-u", "-f", "qcow2", "-b", under.name, "-F", backing_format, path)
        if member.size:
            run_in_qemu(path, workload(seed, member.features, member.size, number), member.features)

    def copy(self, name: str) -> Chain:
        """Returns the same images in another directory."""
        other = object.__new__(Chain)
        other.directory, other.members = self.directory.with_name(name), self.members
        shutil.copytree(self.directory, other.directory)
        return other

    def __getitem__(self, name: str) -> Path:
        return self.directory / name

    @property
    def top(self) -> Path:
        return self.directory / self.members[-1].name

    def format(self, name: str) -> str:
        return next(member.format for member in self.members if member.name == name)

    def content(self, name: str) -> bytes:
        """What QEMU reads from a member."""
        target = qemu_content(self[name], self.directory / "content.raw", format=self.format(name))
        data = target.read_bytes()
        target.unlink()
        return data

    def assert_sound(self) -> None:
        """Fails unless `qemu-img check` is content with every qcow2 member."""
        for member in self.members:
            if member.features:
                Tool("qemu-img")("check", "-f", "qcow2", self[member.name])


def is_empty(path: Path) -> bool:
    """Whether an overlay holds nothing of its own."""
    with open_disk(path, format="qcow2", backing=False) as disk:
        assert isinstance(disk.layers[0], Qcow2)
        return all(bool((batch["kind"] == 0).all()) for batch in disk.extents(depth=1))
