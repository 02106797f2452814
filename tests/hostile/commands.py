"""Runs commands on hostile images, each in a process of its own under limits, and says what it did that it must not.

`python -m tests.hostile.commands` is a server: it loads everything once, forks for each line of JSON that it reads, and answers
with one. Whatever the command opens is told by an audit hook, so that nothing has to be trusted to stay inside.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

MOST_SECONDS, MOST_BYTES = 10, 256 << 20
_MOST_WALL_SECONDS = 60
_MOST_ADDRESSES = 8 << 30
_MOST_OUTPUT = 1 << 28
_NEVER = ("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.system")
_OPTIONAL = ("cowherd.guest.worker",)
"""A program of its own, which is not to be imported."""

_CHANGES = {
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.utime": 1,
    "os.setxattr": 1,
    "os.removexattr": 1,
    "shutil.rmtree": 1,
}
"""What changes files, and how many of its arguments name them."""

ALONE = {
    "cowherd-img info": "info -f FORMAT IMAGE",
    "cowherd-img info json": "info --output=json IMAGE",
    "cowherd inspect": "inspect IMAGE",
    "cowherd inspect trusted": "inspect --policy trusted --json IMAGE",
}
"""Commands that open nothing but the image."""
FOLLOWING = {
    "cowherd-img snapshot": "snapshot -l IMAGE",
    "cowherd-img check": "check -f FORMAT IMAGE",
    "cowherd-img check json": "check --output=json -f FORMAT IMAGE",
    "cowherd-img info chain": "info --backing-chain -f FORMAT IMAGE",
    "cowherd-img map": "map -f FORMAT IMAGE",
    "cowherd-img map json": "map --output=json -f FORMAT IMAGE",
    "cowherd-img measure": "measure -O qcow2 -f FORMAT IMAGE",
    "cowherd-img compare": "compare -f FORMAT -F qcow2 IMAGE SOUND",
    "cowherd-img convert": "convert -f FORMAT -O qcow2 IMAGE OUT",
    "cowherd-img convert compressed": "convert -c -f FORMAT -O qcow2 IMAGE OUT",
    "cowherd-img convert raw": "convert -f FORMAT -O raw IMAGE OUT",
    "cowherd-img dd": "dd -f FORMAT -O qcow2 bs=64k count=10 if=IMAGE of=OUT",
    "cowherd-img resize": "resize -f FORMAT IMAGE +1M",
    "cowherd-img shrink": "resize --shrink -f FORMAT IMAGE 64k",
    "cowherd-img rebase": "rebase -f FORMAT -b SOUND -F qcow2 IMAGE",
    "cowherd-img rebase unsafe": "rebase -u -f FORMAT -b SOUND -F qcow2 IMAGE",
    "cowherd-img flatten": "rebase -f FORMAT -b  IMAGE",
    "cowherd-img commit": "commit -f FORMAT IMAGE",
    "cowherd-img commit into": "commit --break-dependents -f qcow2 OVERLAY",
    "cowherd-img create": "create -f qcow2 -b IMAGE -F FORMAT OUT",
    "cowherd-img convert overlay": "convert -f qcow2 -O raw OVERLAY OUT",
    "cowherd tree": "tree DIR",
    "cowherd verify": "verify --full IMAGE",
    "cowherd doctor": "doctor --full DIR",
    "cowherd seal": "seal IMAGE --format FORMAT",
    "cowherd clone": "clone IMAGE OUT",
    "cowherd bind": "bind DIR",
    "cowherd impact": "impact IMAGE --against SOUND",
    "cowherd impact files": "impact SOUND --against IMAGE --files",
    "cowherd merge": "merge OVERLAY",
    "cowherd move": "move IMAGE OUT",
    "cowherd delete": "delete IMAGE",
    "cowherd gc": "gc DIR",
    "cowherd report": "report DIR -o OUT",
    "cowherd promote": "promote OVERLAY OUT",
    "cowherd flatten": "flatten OVERLAY",
    "cowherd retarget": "retarget OVERLAY --onto SOUND",
    "cowherd repair": "repair IMAGE",
}
"""Commands that follow backing files."""
COMMANDS = ALONE | FOLLOWING


@dataclass(frozen=True)
class Outcome:
    """What a command did. `code` is negative for a signal; `opened` are the files that are not Python's own.

    `changed` are the files outside its folder that it would have changed, had it been let.
    """

    code: int
    seconds: float
    memory: int
    opened: frozenset[str]
    forbidden: tuple[str, ...]
    changed: frozenset[str]
    trace: str
    output: str = field(repr=False, default="")

    @property
    def problem(self) -> str | None:
        """What it must not have done, whichever image it was given."""
        if self.trace:
            return self.trace
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        if self.forbidden:
            return f"did {self.forbidden}"
        if self.seconds > MOST_SECONDS:
            return f"took {self.seconds:.1f} s"
        if self.memory > MOST_BYTES:
            return f"took {self.memory >> 20} MiB"
        return None


class Runner:
    """The server, seen from the tests."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.hostile.commands"]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, name: str, places: dict[str, str], folder: Path) -> Outcome:
        """Runs the command `name` with the words of `places` put in, in `folder`."""
        words = [places.get(word, word) for word in COMMANDS[name].split(" ")]
        words = [f"if={places['IMAGE']}" if word == "if=IMAGE" else word for word in words]
        words = [f"of={places['OUT']}" if word == "of=OUT" else word for word in words]
        return self.words(name.split(" ", 1)[0], words, folder)

    def words(self, program: str, words: Sequence[str], folder: Path) -> Outcome:
        """Runs one command line."""
        task = {"program": program, "words": words, "folder": str(folder)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        answer |= {name: frozenset(answer[name]) for name in ("opened", "changed")}
        answer["forbidden"] = tuple(answer["forbidden"])
        output = folder.parent / f"{folder.name}.out"
        text = output.read_bytes()[: 1 << 20].decode(errors="replace")
        output.unlink()
        return Outcome(**answer, output=text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.communicate()


def _serve() -> None:
    import importlib
    import pkgutil

    import cowherd

    for module in pkgutil.walk_packages(cowherd.__path__, "cowherd."):
        if module.name not in _OPTIONAL:
            importlib.import_module(module.name)
    baseline = _spend(lambda: None)[2]
    for line in sys.stdin:
        task = json.loads(line)
        report = Path(task["folder"] + ".report")
        code, seconds, memory = _spend(lambda task=task: _work(task))
        found = {"opened": [], "forbidden": [], "changed": [], "trace": ""}
        if report.exists():
            with contextlib.suppress(ValueError):
                found = json.loads(report.read_text())
            report.unlink()
        answer = {"code": code, "seconds": seconds, "memory": max(0, memory - baseline), **found}
        print(json.dumps(answer), flush=True)


def _spend(work: Any) -> tuple[int, float, int]:
    """Does `work` in a child; returns its exit code, the seconds of processor and the bytes of memory that it took."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss << 10


def _work(task: dict[str, Any]) -> None:
    """Runs a command line in this process, which ends with it."""
    from cowherd.cli.guard.main import main as guard
    from cowherd.cli.img.main import main as img

    folder = task["folder"]
    os.chdir(folder)
    output = os.open(folder + ".out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _limit()
    opened: set[str] = set()
    changed: set[str] = set()
    forbidden: list[str] = []
    trace, code = "", 0
    _listen(folder, opened, forbidden, changed)
    try:
        code = guard(task["words"]) if task["program"] == "cowherd" else img(["cowherd-img", *task["words"]])
        sys.stdout.flush()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - this is what is looked for
        trace = traceback.format_exc()
    report = {"opened": sorted(opened), "forbidden": forbidden, "changed": sorted(changed), "trace": trace}
    Path(folder + ".report").write_text(json.dumps(report))
    os._exit(code)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS + 1, MOST_SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_ADDRESSES, _MOST_ADDRESSES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_OUTPUT, _MOST_OUTPUT))
    signal.alarm(_MOST_WALL_SECONDS)


def _listen(folder: str, opened: set[str], forbidden: list[str], changed: set[str]) -> None:
    """Notes what is opened, and stops every change to a file outside of `folder` before it is made.

    Commands run here with the rights of whoever runs the tests, on images made to lead them astray: without this, a commit into
    a backing file called /etc/passwd would be a commit into /etc/passwd.
    """
    own = tuple({sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])})
    passed = (*own, "/proc/", "/sys/", "/usr/share/zoneinfo", "/etc/localtime")
    inside = os.path.realpath(folder)
    os.environ["COWHERD_CEILING"] = os.path.dirname(inside)  # what images lead to is the question, not what lies around them

    def guard(name: Any) -> None:
        path = os.path.realpath(f"/proc/self/fd/{name}" if isinstance(name, int) else os.fsdecode(name))
        if path != inside and not path.startswith((inside + "/", inside + ".", os.devnull, "/memfd:")):
            changed.add(path)
            raise PermissionError(errno.EACCES, "the test lets nothing outside its folder be changed", path)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not isinstance(arguments[0], int):
            name = os.path.abspath(os.fsdecode(arguments[0]))
            if name != os.devnull and not name.startswith(passed):
                opened.add(os.path.realpath(name))
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                guard(name)
        elif event in _CHANGES:
            for name in arguments[: _CHANGES[event]]:
                guard(name)
        elif event.startswith(_NEVER):
            forbidden.append(f"{event} {arguments[:1]!a}"[:200])
            raise PermissionError(errno.EACCES, f"the test allows no {event}")

    sys.addaudithook(hear)


if __name__ == "__main__":
    _serve()
