"""The least that each command of both programs can be asked to do, on a small herd whose files have unpleasant names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cowherd import api
from cowherd.cli.guard.main import COMMANDS as GUARD
from cowherd.cli.img.main import COMMANDS as IMG

KIB = 1 << 10
SIZE = 256 * KIB

NAMES = {
    "base": "base ☃.qcow2",
    "one": "a\udcff\ud83d.qcow2".replace("\ud83d", "\udc9c"),  # bytes that are not UTF-8
    "two": "b\n\x1b[31m├.qcow2",
    "long": "-" + "é" * 127,  # 255 bytes
    "alone": "c§.qcow2",
    "copy": "d—.raw",
    "new": "e☃.qcow2",
}
CHINESE = {
    "base": "系统盘 模板.qcow2",
    "one": "网站.qcow2",
    "two": "邮件服务器（测试）.qcow2",  # noqa: RUF001 - full-width brackets, as people type them
    "long": "-" + "长" * 80 + ".qcow2",
    "alone": "独立.qcow2",
    "copy": "备份.raw",
    "new": "新建.qcow2",
}


@dataclass(frozen=True)
class Invocation:
    """One command. `words`: "{one}" is the path of the file that `NAMES` calls so, "{root}" the herd's directory."""

    program: str
    words: tuple[str, ...]
    drift: bool = False
    sealed: bool = True
    given: str = ""

    @property
    def name(self) -> str:
        return f"{self.program} {self.words[0]}"

    def prepare(self, root: Path, names: Mapping[str, str] = NAMES) -> list[str]:
        """Makes the herd, and returns the words of the command."""
        make_herd(root, names, sealed=self.sealed, drift=self.drift)
        return [fill(word, root, names) for word in self.words]


def fill(text: str, root: Path, names: Mapping[str, str] = NAMES) -> str:
    """Puts paths in the places of names."""
    for name, file in names.items():
        text = text.replace(f"{{{name}}}", os.fspath(root / file))
    return text.replace("{root}", os.fspath(root))


def make_herd(root: Path, names: Mapping[str, str] = NAMES, *, sealed: bool = True, drift: bool = False) -> None:
    """A base with three overlays, one of them on another, an image that stands alone, and a raw copy of the base."""
    path = {name: root / file for name, file in names.items()}
    for name, backing in (("base", None), ("one", "base"), ("two", "one"), ("long", "base"), ("alone", None)):
        size, below = (None, names[backing]) if backing else (SIZE, None)
        api.create(path[name], size, backing=below, backing_format="qcow2" if backing else None, break_dependents=True)
        with api.open(path[name], writable=True, break_dependents=True) as disk:
            disk.write(len(name) * 8 * KIB, name.encode() * 8 * KIB)
    api.convert(path["base"], path["copy"], target_format="raw")
    if sealed:
        api.seal(path["base"], bind=True)
    if drift:
        with api.open(path["base"], writable=True, break_dependents=True) as disk:
            disk.write(0, b"drift" * KIB)


XML = "<domain type='qemu'><name>web ☃</name><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source \
file='{long}'/><target dev='vda'/></disk></devices></domain>"

INVOCATIONS = (
    Invocation("cowherd", ("tree", "{root}")),
    Invocation("cowherd", ("status", "{root}"), drift=True),
    Invocation("cowherd", ("show", "{one}"), drift=True),
    Invocation("cowherd", ("log", "{base}")),
    Invocation("cowherd", ("clone", "{base}", "{new}")),
    Invocation("cowherd", ("seal", "{alone}")),
    Invocation("cowherd", ("unseal", "--force", "{base}")),
    Invocation("cowherd", ("verify", "{one}"), drift=True),
    Invocation("cowherd", ("impact", "{base}"), drift=True),
    Invocation("cowherd", ("inspect", "{alone}")),
    Invocation("cowherd", ("repair", "{base}", "--from", "{copy}"), drift=True),
    Invocation("cowherd", ("merge", "{one}")),
    Invocation("cowherd", ("recover", "{root}")),
    Invocation("cowherd", ("doctor", "{root}")),
    Invocation("cowherd", ("bind", "{root}"), sealed=False),
    Invocation("cowherd", ("move", "{two}", "{new}")),
    Invocation("cowherd", ("rename", "{base}", "f☃")),
    Invocation("cowherd", ("delete", "{two}")),
    Invocation("cowherd", ("trash", "list", "{root}")),
    Invocation("cowherd", ("gc", "{root}")),
    Invocation("cowherd", ("watch", "--once", "{root}"), drift=True),
    Invocation("cowherd", ("ps", "{root}")),
    Invocation("cowherd", ("report", "-o", "{root}/page.html", "{root}")),
    Invocation("cowherd", ("promote", "{alone}", "{new}")),
    Invocation("cowherd", ("flatten", "{two}")),
    Invocation("cowherd", ("retarget", "{long}", "--onto", "{alone}")),
    Invocation("cowherd", ("run", "--", "{root}/qemu-system-x86_64", "-drive", "file.filename={two}")),
    Invocation("cowherd", ("hook", "check"), given=XML),
    Invocation("cowherd", ("herd", "list")),
    Invocation("cowherd", ("serve", "--check-config", "--data", "{root}")),
    Invocation("cowherd-img", ("check", "{one}")),
    Invocation("cowherd-img", ("commit", "-p", "{two}"), sealed=False),
    Invocation("cowherd-img", ("compare", "{base}", "{copy}")),
    Invocation("cowherd-img", ("convert", "-p", "-O", "qcow2", "{one}", "{new}")),
    Invocation("cowherd-img", ("create", "-f", "qcow2", "{new}", "1M")),
    Invocation("cowherd-img", ("dd", "if={one}", "of={new}")),
    Invocation("cowherd-img", ("info", "--backing-chain", "{two}")),
    Invocation("cowherd-img", ("map", "{one}")),
    Invocation("cowherd-img", ("measure", "{one}")),
    Invocation("cowherd-img", ("rebase", "-p", "-b", "{alone}", "-F", "qcow2", "{long}")),
    Invocation("cowherd-img", ("resize", "{alone}", "1M")),
    Invocation("cowherd-img", ("snapshot", "-l", "{one}")),
)

WITH_A_SERVER = {"cowherd push", "cowherd pull", "cowherd images"}
"""Commands that talk to an image service; their tests have one (tests/client, tests/cli/guard/test_push.py)."""
COMMANDS = {*(f"cowherd {name}" for name in GUARD), *(f"cowherd-img {name}" for name in IMG)} - WITH_A_SERVER
"""All there are, from the programs' own tables."""
