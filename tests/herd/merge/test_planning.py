"""The plan of a merge: what it says of dependents is what each chain alone says, and its work grows with the depth of a chain."""

from __future__ import annotations

import pytest

from cowherd.herd.impact.verdict import hit_to_json, judge
from cowherd.herd.lineage.survey import survey
from cowherd.herd.merge.merge import merge
from cowherd.storage.hostfile import HostFile
from tests.herd.merge.herds import MIB, large_herd
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize("seed", range(3))
def test_dependents_are_hit_as_each_chain_alone_says(tmp_path, seed):
    herd = large_herd(tmp_path, overlays=10, seed=seed)
    qemu_img("snapshot", "-c", "then", herd["o09"])
    plan = merge(herd["o00"], dry_run=True, strategy="fork").plan
    lineage = survey([tmp_path])
    base = lineage.find(herd["base"])
    alone = [hit_to_json(judge(overlay, base, plan.changed)) for overlay in lineage.dependents(base)]
    assert [hit_to_json(hit) for hit in plan.hits] == alone
    assert any(hit["exposed"] for hit in alone)


def opened_in_planning(directory, monkeypatch, depth: int, *, top: bool) -> int:
    """How many files are opened to plan the merge of the lowest overlay of a chain into its base, or of the topmost."""
    below = make_base(directory / "base", noise(MIB))
    for number in range(depth):
        below = make_overlay(directory / f"layer{number:02}", below.name)
    write(directory / "layer00", "write -P 1 0 64k")
    opened, count = HostFile.open.__func__, [0]

    def counting(cls, *arguments, **options):
        count[0] += 1
        return opened(cls, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(HostFile, "open", classmethod(counting))
        merge(below if top else directory / "layer00", into=directory / "base", dry_run=True)
    return count[0]


@pytest.mark.parametrize("top", [False, True])
def test_planning_opens_as_many_more_files_with_each_image_of_a_chain(tmp_path_factory, monkeypatch, top):
    counts = [opened_in_planning(tmp_path_factory.mktemp("herd"), monkeypatch, depth, top=top) for depth in (4, 8, 12)]
    assert counts[2] - counts[1] == counts[1] - counts[0] <= 2 * 4
