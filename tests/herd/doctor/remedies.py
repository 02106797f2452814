"""Remedies of the doctor, as a user takes them: copied from what it prints, and pasted into a shell."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cowherd.cli.guard.main import main
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind


def kinds(directory, **how) -> list[Kind]:
    return [finding.kind for finding in doctor([directory], **how).findings]


def cure(directory, kind: Kind, **how) -> None:
    """Pastes the remedies of all findings of a kind into a shell; the findings must be gone then."""
    printed = printed_remedies(directory, kind, **how)
    assert printed, f"{kind} was not found"
    for remedy in printed:
        assert remedy, f"{kind} has no remedy"
        paste(remedy)
    assert kind not in kinds(directory, **how)


def printed_remedies(
    directory, kind: Kind, *, full: bool = False, longest_chain: int = 16, options: Sequence[str] = ()
) -> list[str]:
    """What the program prints below each finding of a kind, "" where that is no command."""
    options = [*options, *(["--full"] if full else []), "--longest-chain", str(longest_chain)]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["doctor", str(directory), *options])
    lines = [*said.getvalue().splitlines(), ""]
    below = [after for line, after in itertools.pairwise(lines) if line.removeprefix("note: ").startswith(f"{kind}: ")]
    return [line.strip() if line.startswith("    ") else "" for line in below]


def paste(remedy: str) -> None:
    """Runs a line in bash; `cowherd` is what is tested."""
    program = f'cowherd() {{ "{sys.executable}" -m cowherd.cli.guard.main "$@"; }}'
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    command = ["bash", "-c", f"{program}\n{remedy}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode in ((0, 2, 3) if "qemu-img" in remedy else (0,)), done.stderr
