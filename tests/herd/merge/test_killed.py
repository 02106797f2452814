"""A merge that is killed at any moment, and then recovered, changes nothing in any other disk.

By default a few moments are tried, spread over the whole merge; COWHERD_MERGE_KILLS=100 tries that many for
each case.
"""

from __future__ import annotations

import os
import random
import shutil
from functools import cache
from pathlib import Path

import pytest

from cowherd.herd.lineage.survey import survey
from cowherd.herd.merge.merge import merge
from cowherd.herd.merge.recover import FINISHED, TAKEN_BACK, recover
from cowherd.herd.records.status import Status
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.storage.protection import Protection
from tests.herd.merge.herds import SIZE, assert_sound, contents, killed_at, large_herd, moments_of

pytestmark = [pytest.mark.qemu("qemu-io"), pytest.mark.slow]

KILLS = int(os.environ.get("COWHERD_MERGE_KILLS", "3"))
CASES = {
    "preserve": {"overlay": "o00", "strategy": "preserve"},
    "preserve, emptied": {"overlay": "o01", "strategy": "preserve", "keep": "empty"},
    "preserve, kept": {"overlay": "o01", "strategy": "preserve", "keep": "content"},
    "preserve, deep": {"overlay": "deep", "into": "base", "strategy": "preserve"},
    "preserve, deep, emptied": {"overlay": "deep", "into": "base", "strategy": "preserve", "keep": "empty"},
    "fork": {"overlay": "o00", "strategy": "fork"},
    "fork, deep, emptied": {"overlay": "deep", "into": "base", "strategy": "fork", "keep": "empty"},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A herd of 20 overlays with a sealed base, and what each disk holds."""
    directory = tmp_path_factory.mktemp("original")
    herd = large_herd(directory)
    seal(herd["base"], level=Protection.READONLY, bind=True)
    seal(herd["o02"])
    return directory, contents(herd)


def deepest(directory: Path) -> str:
    """The name of an overlay as large as the base, that stands on an overlay."""
    lineage = survey([directory])
    last_first = sorted(lineage.images.values(), key=lambda image: image.path, reverse=True)
    return next(image.path.name for image in last_first if image.size == SIZE and len(lineage.chain(image)) > 2)


def named(case: dict[str, str], directory: Path) -> dict[str, object]:
    """The arguments of a merge in a copy of the herd."""
    paths = {key: directory / case[key] for key in ("overlay", "into") if key in case}
    if case["overlay"] == "deep":
        paths["overlay"] = directory / deepest(directory)
    return {**case, **paths}


def copied(original: Path, directory: Path) -> Path:
    """A copy of the herd whose seals know the copied files."""
    shutil.copytree(original, directory)
    verify(herd=[directory], full=True, refresh_seals=True)
    return directory


@cache
def moments(source: Path, case: str) -> int:
    """How many moments there are to be killed at in a merge of the herd in `source`."""
    directory = copied(source, source.with_name(f"{source.name}, {case}"))
    found = moments_of(lambda: merge(**named(CASES[case], directory)))
    shutil.rmtree(directory)
    return found


@pytest.mark.parametrize("part", range(KILLS))
@pytest.mark.parametrize("case", CASES)
def test_a_merge_killed_anywhere_and_recovered_harms_no_other_disk(original, tmp_path, case, part):
    """Killed at a random moment of each of KILLS equal parts of the whole merge."""
    source, before = original
    whole = moments(source, case)
    first, last = 1 + whole * part // KILLS, whole * (part + 1) // KILLS
    moment = random.Random(f"{case} {part}").randint(first, max(first, last))
    directory = copied(source, tmp_path / "herd")
    arguments = named(CASES[case], directory)
    assert killed_at(min(moment, whole), lambda: merge(**arguments))
    check_interrupted(directory, before)
    check_recovered(directory, before, arguments)
    shutil.rmtree(directory)


def check_interrupted(directory: Path, before: dict[str, str]) -> None:
    """Between a kill and the recovery every disk but the base, of which overlays keep what they need, reads as before."""
    now = contents({name: directory / name for name in before if name != "base"})
    assert now == {name: before[name] for name in now}


def check_recovered(directory: Path, before: dict[str, str], arguments: dict[str, object]) -> None:
    interrupted = list(directory.glob("*.merge"))
    if interrupted:
        statuses = {row.path.name: row.status for row in verify(herd=[directory])}
        assert statuses["base"] is Status.MERGE_INTERRUPTED
    ended = recover([directory])
    assert {one.outcome for one in ended} <= {FINISHED, TAKEN_BACK}
    assert len(ended) == len(interrupted)
    assert [one.left for one in ended if one.left] == []
    assert [str(one.error) for one in ended if one.error] == []
    now = contents({path.name: path for path in directory.iterdir() if path.name in {*before, "base-merged"}})
    overlay = arguments["overlay"].name
    merged = bool(ended) and ended[0].outcome == FINISHED
    for name, digest in now.items():
        if name == "base-merged" or (name == "base" and merged and arguments["strategy"] == "preserve"):
            name = overlay
        assert digest == before[name], name
    assert set(before) - set(now) <= {overlay}
    assert [row for row in verify(herd=[directory]) + verify(herd=[directory], full=True) if not row.status.is_fine] == []
    assert_sound({name: directory / name for name in now}, codes=(0, 3))
    assert list(directory.glob("*.merge")) == []
    assert [path for path in directory.glob(".cowherd-*") if path.read_bytes()[:4] == b"QFI\xfb"] == []
