"""Changes cowherd a little, many times, and sees whether a test notices: `python -m tests.mutants --number 60`.

Only modules in which data can be lost are changed, in a copy of the project, against the tests that cover them. A change that no
test notices is printed; it may be one that makes no difference.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.mutants.mutations import Mutation, mutations

ROOT = Path(__file__).parents[2]
_JOBS = "tests/reliability/test_jobs.py"
_MERGE = "merge", "phases", "offline", "requirements", "recover", "fork", "concerned", "holding", "plan", "planning"
_AMID = "tests/herd/test_lasting.py", "tests/herd/merge/test_amid_merge.py"
AREAS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "files": (
        ("storage/hostfile", "storage/atomic", "storage/durable", "storage/identity", "storage/transfer"),
        ("tests/storage", "tests/reliability/test_model.py", _JOBS),
    ),
    "qcow2": (
        tuple(f"formats/qcow2/{name}" for name in ("metadata", "refcounts", "resize", "state", "header", "writer", "image")),
        ("tests/formats/qcow2", "tests/image", _JOBS),
    ),
    "merge": (
        (
            *(f"herd/merge/{name}" for name in _MERGE),
            "herd/records/journal",
        ),
        (
            "tests/herd/merge/test_readback.py",
            "tests/herd/merge/test_recover.py",
            "tests/herd/merge/test_merge.py",
            f"{_JOBS} -k merge",
        ),
    ),
    "move": (
        ("herd/overlays/move",),
        ("tests/herd/overlays/test_move.py", "tests/herd/records/test_ownership.py", *_AMID, f"{_JOBS} -k move"),
    ),
    "links": (
        ("herd/overlays/relink", "herd/seals/naming"),
        ("tests/herd/overlays/test_relink.py", "tests/herd/overlays/test_move.py", *_AMID, f"{_JOBS} -k move"),
    ),
    "trash": (("herd/trash/trash", "herd/trash/checks"), ("tests/herd/trash/test_trash.py", *_AMID, f"{_JOBS} -k trash")),
    "promote": (("herd/overlays/promote",), ("tests/herd/overlays/test_promote.py", *_AMID, f"{_JOBS} -k promote")),
    "repair": (
        ("herd/repair/preserve", "herd/repair/repair"),
        ("tests/herd/repair/test_preserve.py", "tests/herd/repair/test_repair.py", *_AMID, f"{_JOBS} -k repair"),
    ),
    "seal": (
        ("herd/seals/seal", "herd/seals/recorded_files", "herd/seals/unseal", "herd/seals/held", "herd/records/sealwriting"),
        (
            "tests/herd/seals/test_seal.py",
            "tests/herd/seals/test_adopt.py",
            *_AMID,
            "tests/herd/repair/test_repair.py",
            f"{_JOBS} -k seal",
        ),
    ),
    "gate": (
        ("changes", "herd/gate/gate", "herd/seals/bind"),
        ("tests/test_changes.py", "tests/herd/gate/test_gate.py", "tests/test_api.py"),
    ),
}
"""For each area its modules, and the tests that cover them, with what else pytest is told; the quicker ones first."""

_LONGEST_SECONDS = 600


def main() -> int:
    """Tries mutations until the number is reached, and prints how many of each area were noticed."""
    arguments = _arguments()
    tried: Counter[str] = Counter()
    noticed: Counter[str] = Counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
            copy = _copied(Path(directory))
            for area, module, mutation in _chosen(arguments):
                found = _is_noticed(copy, module, mutation, AREAS[area][1])
                tried[area] += 1
                noticed[area] += found
                if not found:
                    print(f"not noticed: {module}.py:{mutation.line}: {mutation.what}: {mutation.text[:100]}", flush=True)
    finally:  # also of a run that is ended before it is through
        for area in tried:
            print(f"{area}: {noticed[area]} of {tried[area]} noticed")
        print(f"{noticed.total()} of {tried.total()} noticed", flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--number", type=int, default=60, help="how many changes to try (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="which ones are drawn (default: 0)")
    parser.add_argument("--areas", default=",".join(AREAS), help=f"of these areas only (default: {','.join(AREAS)})")
    parser.add_argument(
        "--guards", action="store_true", help="every call of a flush, a lock, a gate or a check left out, and no others"
    )
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> Iterator[tuple[str, str, Mutation]]:
    possible = [
        (area, module, mutation)
        for area in arguments.areas.split(",")
        for module in AREAS[area][0]
        for mutation in mutations((ROOT / "src/cowherd" / f"{module}.py").read_text())
        if mutation.guards or not arguments.guards
    ]
    number = len(possible) if arguments.guards else min(arguments.number, len(possible))
    yield from sorted(random.Random(arguments.seed).sample(possible, number), key=lambda one: (one[0], one[1], one[2].line))


def _copied(directory: Path) -> Path:
    copy = directory / "project"
    ignored = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def _is_noticed(copy: Path, module: str, mutation: Mutation, tests: Sequence[str]) -> bool:
    changed = copy / "src/cowherd" / f"{module}.py"
    source = changed.read_text()
    changed.write_text(mutation.applied(source))
    try:
        return not all(_passes(copy, words.split()) for words in tests)
    finally:
        changed.write_text(source)


def _passes(copy: Path, words: Sequence[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *words]
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=_LONGEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False  # a loop without an end is noticed
    return done.returncode in (0, 5)


if __name__ == "__main__":
    sys.exit(main())
