from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.growth import GROWTH_JOBS
from bench.jobs import JOBS
from bench.measure import BenchmarkFailed
from bench.page import BEGIN, END, write_table
from bench.picture import picture
from bench.ratio import Comparison, Spread
from bench.report import Circumstances, table
from bench.row import Cost, Limit, Row

ROOT = Path(__file__).parents[2]
ROW = Row(
    name="copy",
    title="copy <a> disk",
    peer="qemu-img",
    place="tmpfs",
    target="0.7",
    configuration="plain",
    theirs=Cost(2.0, 2.5, 30 << 20),
    ours=Cost(1.0, 1.5, 40 << 20),
    compared=Comparison(Spread(0.4, 0.5, 0.6), Spread(0.7, 0.8, 0.9), Spread(-1.0, -1.0, -1.0)),
    reached=True,
    pairs=5,
    pairs_wanted=5,
)


def row(**more):
    return dataclasses.replace(ROW, **more)


def under(**more):
    facts = {"scale": 1.0, "pairs": 5} | more
    return Circumstances(command="python -m bench", when="today", qemu="10", system="Linux", cores=2, load=0.0, **facts)


def test_a_line_has_the_peers_figures_first_and_the_spread():
    assert "| 2.000 / 1.000 |  |  | 2.500 / 1.500 | 30 / 40 | 0.500 (0.400 to 0.600) |  |  | 0.7 | yes |" in table([row()])


def test_a_line_of_what_writes_has_the_durable_times_and_the_limit_too():
    compared = dataclasses.replace(ROW.compared, limit=Spread(1.4, 1.5, 1.6))
    both = {"theirs": Cost(2.0, 2.5, 30 << 20, 4.0), "ours": Cost(1.0, 1.5, 40 << 20, 3.2)}
    line = table([row(compared=compared, limit=Limit(2.1, "direct"), **both)]).splitlines()[-1]
    assert "| 2.000 / 1.000 | 4.000 / 3.200 | 2.100 (direct) |" in line
    assert "| 0.500 (0.400 to 0.600) | 0.800 (0.700 to 0.900) | 1.50 | 0.7 | yes |" in line


def test_every_line_has_a_cell_for_each_head():
    missing = Row("copy", "copy", "peer", "xfs", "0.7", missing="only root may mount a file system")
    head, _, *lines = table([row(), missing]).splitlines()
    assert {line.count("|") for line in lines} == {head.count("|")}


def test_a_missed_target_and_too_much_memory_stand_out():
    line = table([row(reached=False, ours=Cost(1.0, 1.0, 151 << 20))]).splitlines()[-1]
    assert "**no**" in line
    assert "151 (over 150)" in line


def test_a_row_that_could_not_run_says_why():
    missing = Row("copy", "copy", "peer", "xfs", "0.7", missing="only root may mount a file system")
    assert "not run: only root may mount a file system" in table([missing])


def test_a_row_of_fewer_pairs_than_were_asked_for_says_so():
    assert "| 0.500 (0.400 to 0.600, 2 pairs) |" in table([row(pairs=2, pairs_wanted=5)])


def test_a_peer_that_was_stopped_is_said_to_be_and_the_ratio_is_a_bound():
    line = table([row(stopped_after=120.2)]).splitlines()[-1]
    assert "| qemu-img, stopped after 120 s | over 2.000 / 1.000 |  |  | over 2.500 / 1.500 |" in line
    assert "| at most 0.500 (0.400 to 0.600) |" in line
    assert ">at most 0.8<" in picture([row(stopped_after=120.2)])


def test_the_picture_is_well_formed_and_has_a_bar_for_each_row_with_figures():
    rows = [
        row(target_ratio=0.7),
        row(reached=False, target="report"),
        Row("copy", "copy", "peer", "xfs", "0.7", missing="no root"),
    ]
    found = ElementTree.fromstring(picture(rows))
    assert len(found.findall("{http://www.w3.org/2000/svg}rect")) == 2
    assert len(found.findall("{http://www.w3.org/2000/svg}line[@class='target']")) == 1


def test_the_page_has_a_place_for_the_table():
    text = (ROOT / "docs/benchmarks.md").read_text()
    assert text.index(BEGIN) < text.index(END)


def test_the_table_replaces_the_one_before_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(page, under(), [row()])
    write_table(page, under(), [row(title="another")])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert text.count("another") == 1
    assert "old" not in text
    assert "copy <a> disk" not in text


@pytest.mark.parametrize(("more", "warned"), [({}, False), ({"scale": 1 / 32}, True), ({"pairs": 1}, True)])
def test_figures_of_less_than_a_full_run_are_marked(tmp_path, more, warned):
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    write_table(page, under(**more), [row()])
    assert ("Not a full run" in page.read_text()) is warned


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(BenchmarkFailed, match="does not have the lines"):
        write_table(page, under(), [row()])
    assert page.read_text() == "nothing\n"


def test_the_page_names_only_jobs_that_exist():
    named = set(re.findall(r"--job ([\w-]+)", (ROOT / "docs/benchmarks.md").read_text()))
    assert named
    assert named <= {job.name for job in JOBS} | {job.name for job in GROWTH_JOBS} | {"service"}
