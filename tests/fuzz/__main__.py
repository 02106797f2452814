"""Fuzzes everything that reads a file: `python -m tests.fuzz --minutes 10`, or `make fuzz MINUTES=10`.

Guided by coverage where atheris is installed (the extra `fuzz`), by chance where it is not. With `--image-fuzzer DIR`, the folder
tests/image-fuzzer of QEMU's sources, QEMU's own generator makes images as well. A finding (an exception that is not of the
project's own, more than 10 s or 256 MiB) is kept in --findings and named; `--again FILE` repeats it.

The inputs are tried by one process after another: what counts coverage keeps more with every input, and gives back nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

MOST_SECONDS, MOST_BYTES = 10, 256 << 20
MINIMISED_AT_ONCE = 4096
MOST_GROWTH = 1 << 30
_FINDINGS, _AGAIN = 4, 75


class TooSlow(Exception):
    """An input took longer than any may."""


class TooLarge(Exception):
    """An input took more memory than any may."""


class FromBytes:
    """Decisions taken from a fuzzer's input; zeros when it is used up."""

    def __init__(self, data: bytes):
        self._data, self._position = data, 0

    def number(self, most: int) -> int:
        """Returns an integer from 0 to `most`."""
        width = max(1, (most.bit_length() + 7) // 8)
        piece = self._data[self._position : self._position + width]
        self._position += width
        return int.from_bytes(piece, "little") % (most + 1)


class ByChance:
    """Decisions of a random generator."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def number(self, most: int) -> int:
        """Returns an integer from 0 to `most`."""
        return self._random.randint(0, most)


class Fuzzer:
    """Tries inputs, counts them and keeps those that are findings."""

    def __init__(self, folder: Path, findings: Path, only: str | None = None):
        from tests.fuzz import mutate, seeds, targets

        self._mutated, self._exercise = mutate.mutated, targets.exercise
        scratch = folder / f"seeds-{os.getpid()}"
        scratch.mkdir()
        self.seeds = [seed for seed in seeds.seeds(scratch) if only is None or (seed.name or seed.kind) in only.split(",")]
        self.path, self.findings = folder / "input", findings
        self.inputs, self.found, self.tried = 0, set[str](), Counter[str]()
        for seed in self.seeds:  # what is loaded or kept on first use is no input's doing
            self.path.write_bytes(seed.content)
            self._exercise(seed.kind, self.path)
        self._at_first = self._peak()

    def has_grown(self) -> bool:
        """Whether this process holds so much that another one should go on."""
        return self._peak() > self._at_first + MOST_GROWTH

    def told(self) -> str:
        """Returns what was done, for the process that goes on."""
        return json.dumps({"inputs": self.inputs, "found": sorted(self.found), "tried": self.tried})

    def go_on(self, told: str) -> None:
        """Goes on after another process."""
        done = json.loads(told)
        self.inputs, self.found, self.tried = done["inputs"], set(done["found"]), Counter(done["tried"])

    def one(self, choices: Any) -> None:
        """Tries one mutation of one seed with one action."""
        seed = self.seeds[choices.number(len(self.seeds) - 1)]
        action = choices.number(31)
        self.tried[seed.name or seed.kind] += 1
        self.attempt(seed.kind, self._mutated(seed, choices), action, seed.content)

    def attempt(self, kind: str, content: bytes, action: int | None = None, seed: bytes = b"") -> None:
        """Tries one file. Anything but an answer or an error of the project is kept, as little changed from `seed` as will do."""
        self.inputs += 1
        before = self._peak()
        error = self._error(kind, content, action)
        if error is None and self._peak() - before > MOST_BYTES:
            error = TooLarge(f"{(self._peak() - before) >> 20} MiB more than anything before")
        if error is not None and (where := _place_of(error)) not in self.found:
            self.found.add(where)
            if seed and not isinstance(error, TooSlow | TooLarge):
                content = minimised(content, seed, lambda less: self._fails_at(where, kind, less, action))
            self._keep(kind, content, where, error)

    def _error(self, kind: str, content: bytes, action: int | None) -> Exception | None:
        self.path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            self._exercise(kind, self.path, action)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            return error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return None

    def _fails_at(self, where: str, kind: str, content: bytes, action: int | None) -> bool:
        error = self._error(kind, content, action)
        return error is not None and _place_of(error) == where

    def _peak(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    def _keep(self, kind: str, content: bytes, where: str, error: Exception) -> None:
        self.findings.mkdir(exist_ok=True, parents=True)
        name = self.findings / f"{kind}-{len(self.found)}-{type(error).__name__}"
        name.write_bytes(content)
        print(f"finding: {where}: {error}\n  python -m tests.fuzz --again {name}", flush=True)


def _place_of(error: Exception) -> str:
    """What tells one finding from another: the class of its exception, and the last line of cowherd's on its way."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/cowherd/" in frame.filename]
    last = frames[-1] if frames else None
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}" if last else type(error).__name__


def minimised(content: bytes, seed: bytes, still: Callable[[bytes], bool]) -> bytes:
    """Returns `content` with as many of its differences from `seed` taken back, one after the other, as `still` allows."""
    if len(content) < len(seed) and still(longer := content + seed[len(content) :]):
        content = longer
    least = bytearray(content)
    shared = min(len(content), len(seed))
    for start in range(0, shared, MINIMISED_AT_ONCE):
        end = min(shared, start + MINIMISED_AT_ONCE)
        if content[start:end] == seed[start:end]:
            continue
        for at in range(start, end):
            if least[at] != seed[at]:
                before, least[at] = least[at], seed[at]
                if not still(bytes(least)):
                    least[at] = before
    return bytes(least)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"more than {MOST_SECONDS} s")


def _guided(fuzzer: Fuzzer, end: float, most: int, folder: Path) -> None:
    import atheris

    def one(data: bytes) -> None:
        if time.monotonic() > end or fuzzer.inputs >= most:
            _finish(fuzzer)
        if fuzzer.has_grown():
            _hand_over(fuzzer, folder)
        fuzzer.one(FromBytes(data))

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    options = ("-max_len=96", "-len_control=0", "-timeout=60", "-report_slow_units=60", "-verbosity=0", "-rss_limit_mb=0")
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


def _by_chance(fuzzer: Fuzzer, end: float, most: int) -> None:
    number = random.SystemRandom().getrandbits(40)
    while time.monotonic() < end and fuzzer.inputs < most:
        fuzzer.one(ByChance(number + fuzzer.inputs))


def _of_qemu(fuzzer: Fuzzer, folder: str, seconds: float) -> None:
    """Lets QEMU's image fuzzer make images."""
    sys.path.insert(0, folder)
    import qcow2  # type: ignore[import-not-found]  # of QEMU's sources, not a package

    sample = random.sample
    # Since Python 3.11 a set has no order to sample from; QEMU's generator was not changed for that.
    random.sample = lambda population, k: sample(sorted(population), k)  # type: ignore[method-assign, assignment]
    end, begun = time.monotonic() + seconds, fuzzer.inputs
    image = fuzzer.path.with_name("qemu")
    while time.monotonic() < end:
        qcow2.create_image(str(image), "base.raw", "raw", None)
        fuzzer.attempt("qcow2", image.read_bytes(), random.randrange(32))
    random.sample = sample
    print(f"{fuzzer.inputs - begun} images of QEMU's image fuzzer", flush=True)


def _finish(fuzzer: Fuzzer) -> None:
    tried = ", ".join(f"{number} {name}" for name, number in sorted(fuzzer.tried.items()))
    print(f"{fuzzer.inputs} inputs, {len(fuzzer.found)} findings: {tried}", flush=True)
    os._exit(_FINDINGS if fuzzer.found else 0)  # libFuzzer takes any other end for a crash


def _hand_over(fuzzer: Fuzzer, folder: Path) -> None:
    (folder / _STATE).write_text(fuzzer.told())
    os._exit(_AGAIN)


_STATE = "state.json"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--inputs", type=int, default=1 << 60, help="end after this many")
    parser.add_argument("--seeds", help="only these kinds of files, such as XFS,btrfs,LVM")
    parser.add_argument("--by-chance", action="store_true", help="without coverage, which is several times faster")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument("--image-fuzzer", metavar="DIR", help="tests/image-fuzzer of QEMU's sources")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the process that started this one
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--again", type=Path, metavar="FILE", help="try a finding again")
    return parser.parse_args()


def _instrumented(by_chance: bool) -> bool:
    """Loads what is fuzzed, with the counters of coverage if they can be had; returns whether they could."""
    try:
        import atheris
    except ImportError:
        if not by_chance:
            print("atheris is not installed (pip install 'qemu-cowherd[fuzz]'): inputs are chosen by chance", flush=True)
        by_chance = True
    if not by_chance:
        with atheris.instrument_imports(include=["cowherd"]):
            from tests.fuzz import targets
    else:
        from tests.fuzz import targets
    return bool(targets) and not by_chance


def main() -> None:
    """Fuzzes until the time or the number of inputs is reached; exits with 4 if there are findings."""
    arguments = _arguments()
    if arguments.again is not None:
        from tests.fuzz.targets import exercise

        exercise(arguments.again.name.split("-")[0], arguments.again)
    elif arguments.folder is not None:
        _work(arguments)
    else:
        sys.exit(_in_turn(arguments.minutes * 60))


def _in_turn(seconds: float) -> int:
    """Lets one process after another try inputs; returns the exit code of the last."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, prefix="cowherd-fuzz-") as folder:
        words = [
            sys.executable,
            "-m",
            "tests.fuzz",
            *sys.argv[1:],
            "--folder",
            folder,
            "--until",
            str(time.monotonic() + seconds),
        ]
        code = _AGAIN
        while code == _AGAIN:
            code = subprocess.run(words, check=False).returncode
        return code


def _work(arguments: argparse.Namespace) -> None:
    """Tries inputs until this process has grown too large, or the end is reached."""
    guided = _instrumented(arguments.by_chance)
    signal.signal(signal.SIGPROF, _too_slow)
    fuzzer, state = Fuzzer(arguments.folder, arguments.findings, arguments.seeds), arguments.folder / _STATE
    if state.exists():
        fuzzer.go_on(state.read_text())
    elif arguments.image_fuzzer:
        _of_qemu(fuzzer, arguments.image_fuzzer, arguments.minutes * 6)
    if guided:
        _guided(fuzzer, arguments.until, arguments.inputs, arguments.folder)
    else:
        _by_chance(fuzzer, arguments.until, arguments.inputs)
    _finish(fuzzer)


if __name__ == "__main__":
    main()
