"""Runs qemu-img and cowherd-img on the same arguments and compares what they print and how they end."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cowherd.cli.img.main import main
from tests.qemu import Tool

_OPEN_IN = re.compile(r" Open in: [^\n]*")
"""What cowherd-img says more about an image in use."""


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def cowherd_img(*arguments: str | Path, program: str = "cowherd-img") -> Outcome:
    """Runs cowherd-img in this process, as if it was called `program`."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([program, *map(str, arguments)])
    return Outcome(code, _text(out), _text(err))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8", "surrogateescape")


def reference(*arguments: str | Path) -> Outcome:
    """Runs the real qemu-img."""
    done = Tool("qemu-img").run(*arguments)
    return Outcome(done.returncode, done.stdout, done.stderr)


def same(*arguments: str | Path) -> Outcome:
    """Runs both in the current directory, and asserts that nothing differs; returns what they did."""
    theirs = reference(*arguments)
    ours = cowherd_img(*arguments, program="qemu-img")
    _assert_same(theirs, ours)
    return ours


def same_change(folder: Path, *arguments: str | Path, changed: Iterable[str] = ()) -> Outcome:
    """Runs each of both in a copy of `folder` of its own; the files `changed` must hold the same content, and pass qemu-img's
    check."""
    copies = [folder.parent / f"{folder.name}-{who}" for who in ("theirs", "ours")]
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-r", folder, copy], check=True)
    theirs = _inside(copies[0], reference, *arguments)
    ours = _inside(copies[1], lambda *words: cowherd_img(*words, program="qemu-img"), *arguments)
    _assert_same(theirs, ours)
    for name in changed:
        Tool("qemu-img")("compare", copies[0] / name, copies[1] / name)
        Tool("qemu-img")("check", "-q", copies[1] / name, codes=(0, 63))
    return ours


def _inside(folder: Path, run, *arguments: str | Path) -> Outcome:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return run(*arguments)
    finally:
        os.chdir(before)


def _assert_same(theirs: Outcome, ours: Outcome) -> None:
    assert ours.out == theirs.out
    if not _old_usage_message(theirs):
        assert _OPEN_IN.sub("", ours.err) == theirs.err
    assert ours.code == theirs.code


def _old_usage_message(theirs: Outcome) -> bool:
    """Whether this is a complaint about usage by a qemu-img that has no help texts of its commands (Debian's 10.0 and 10.1
    have)."""
    old_hint = "Try 'qemu-img --help' for more information"
    return old_hint in theirs.err
