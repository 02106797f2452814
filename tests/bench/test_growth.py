"""How cost grows: the series of images, and the tables."""

from __future__ import annotations

import json

import pytest

from bench import growth as series
from bench.__main__ import main
from bench.growth import DEPTHS, MORE_DATA, SIZES, Cell, Shape, make_chain, shapes
from bench.growth_table import growth, growth_tables
from bench.report import Circumstances
from bench.row import Cost
from cowherd import open as open_image
from cowherd.extents import DATA


def cell(job, size, depth, data, cpu, peak=100 << 20, theirs=None):
    return Cell(job, Shape(size, depth, data), Cost(cpu * 2, cpu, peak), theirs)


def test_the_series_has_three_sizes_at_three_depths_and_more_data_once():
    series = shapes(1)
    assert [(shape.size, shape.depth) for shape in series[:-1]] == [(size, depth) for size in SIZES for depth in DEPTHS]
    assert len({shape.data for shape in series[:-1]}) == 1
    assert series[-1] == Shape(SIZES[0], DEPTHS[0], MORE_DATA * series[0].data)


@pytest.mark.parametrize("shape", [Shape(16 << 30, 1, 1 << 20), Shape(1 << 40, 3, 3 << 20)])
def test_a_chain_holds_the_data_of_its_shape_far_apart(tmp_path, shape):
    (tmp_path / "chain").mkdir()
    made = make_chain(tmp_path / "chain", tmp_path / "out", shape)
    assert len(made.layers) == shape.depth
    for path in (made.top, made.flat):
        with open_image(path, format="qcow2") as disk:
            found = [extent for batch in disk.extents() for extent in batch[batch["kind"] == DATA].tolist()]
        assert sum(length for _, length, *_ in found) > shape.data * 0.9
        assert found[-1][0] > shape.size * 0.9


def test_growth_compares_with_the_least_of_all_else():
    cells = [
        cell("map", 1, 1, 1, 1.0),
        cell("map", 9, 1, 1, 1.5, 200 << 20),
        cell("map", 1, 9, 1, 3.0),
        cell("map", 9, 9, 1, 77.0),
        cell("map", 1, 1, 4, 4.0),
        cell("commit", 1, 2, 1, 1.0),
    ]
    found = growth(cells)
    assert [row.job for row in found] == ["map", "commit"]
    assert (found[0].by_size, found[0].by_depth, found[0].by_data) == ((1.5, 2.0), (3.0, 1.0), (4.0, 1.0))
    assert (found[1].by_size, found[1].by_depth, found[1].by_data) == (None, None, None)


def test_the_table_has_the_figures_of_both_sides():
    text = growth_tables([cell("map", 1 << 40, 8, 1 << 20, 0.25, theirs=Cost(3, 1.5, 50 << 20)), cell("seal", 1 << 30, 1, 1, 1)])
    assert "| map | 1 TiB | 8 | 1 MiB | 1.500 / 0.250 | 50 / 100 |" in text
    assert "| seal | 1 GiB | 1 | 1 bytes | 1.000 | 100 |" in text
    assert "| map | - | - | - |" in text


@pytest.mark.qemu
def test_the_series_runs_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(series, "DEPTHS", (1, 2))
    monkeypatch.setattr(series, "SIZES", (16 << 30, 1 << 40))
    words = ["--growth", "--scale", "0.001", "--pairs", "1", "--job", "info", "--job", "commit"]
    assert main([*words, "--folder", str(tmp_path), "--json", str(tmp_path / "out")]) == 0
    document = json.loads((tmp_path / "out").read_text())
    depths = {job: [found["shape"]["depth"] for found in document["cells"] if found["job"] == job] for job in ("info", "commit")}
    assert depths == {"info": [1, 2, 1, 2, 1], "commit": [2, 2]}
    assert document["growth"][0]["by_depth"]
    assert "| info | 1 TiB | 2 |" in capsys.readouterr().out
    assert Circumstances(**document["circumstances"]).pairs == 1
