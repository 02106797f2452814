"""Tells the story of a herd of real disks with the real commands: `make demo`.

Needs no root and no QEMU. Exits with 0 only if everything that the story says was found to be so.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from filesystem import PROGRAMS
from stage import Stage, StoryBroken
from story import Story

from cowherd.errors import CowherdError

_SPACE_NEEDED = 1 << 30


def main() -> int:
    """Tells the story in a temporary folder and returns the exit code."""
    parser = argparse.ArgumentParser(description="Watch cowherd keep a herd of real disks safe. Needs e2fsprogs, and no root.")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the disks")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cowherd-demo-"))
    try:
        _tell(folder)
        return 0
    except (StoryBroken, CowherdError, OSError) as error:
        sys.stdout.flush()
        print(f"\nThe story broke off: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if arguments.keep:
            print(f"\nThe disks are in {folder}")
        else:
            shutil.rmtree(folder)


def _tell(folder: Path) -> None:
    began = time.monotonic()
    stage = Stage(folder)
    _require(stage, folder)
    story = Story(stage, folder)
    story.tell()
    size = sum(file.stat().st_blocks for file in story.herd.rglob("*")) * 512
    stage.chapter("The end")
    stage.say(f"{stage.claims} claims, each checked and found true, in {time.monotonic() - began:.0f} seconds.")
    stage.say(
        f"The herd takes {size >> 20} MiB on disk, for {len(story.files)} files of this machine and",
        f"{story.overlays_written >> 20} MiB that guests wrote.",
    )


def _require(stage: Stage, folder: Path) -> None:
    missing = [program for program in PROGRAMS if not stage.has(program)]
    if missing:
        raise StoryBroken(f"{' and '.join(missing)} not installed; on Debian and Ubuntu: sudo apt-get install e2fsprogs")
    free = shutil.disk_usage(folder).free
    if free < _SPACE_NEEDED:
        raise StoryBroken(f"{folder} has {free >> 20} MiB free, {_SPACE_NEEDED >> 20} are needed; TMPDIR names another place")


if __name__ == "__main__":
    sys.exit(main())
