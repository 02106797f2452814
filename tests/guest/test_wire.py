from __future__ import annotations

import json

import numpy as np
import pytest

from cowherd import extents
from cowherd.guest import wire
from cowherd.guest.chart import Chart, FileEntry, FileSystem
from cowherd.guest.source import Malformed

SIZE = 1 << 20
WHOLE = extents.ranges([(0, SIZE)])
NONE = extents.ranges([])


def chart_of(runs) -> Chart:
    """A chart of one file system with one file, which has (offset in the file, place on the disk, length) as its runs."""
    entry = FileEntry("file", 10, np.array(runs, np.int64).reshape(-1, 3), None, None)
    return Chart((FileSystem("partition 1", "ext4", WHOLE, {"/a": entry}, free=NONE, idle=NONE),), NONE, (), (), ())


def test_a_chart_comes_back_as_it_was():
    chart = chart_of([(0, 4096, 8192), (8192, SIZE - 512, 512)])
    (system,) = wire.decoded(wire.encoded(chart), SIZE).systems
    assert system.files["/a"].runs.tolist() == [[0, 4096, 8192], [8192, SIZE - 512, 512]]


@pytest.mark.parametrize(
    "run", [(0, SIZE, 1), (0, SIZE - 511, 512), (-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 1 << 62, 1 << 62), (0, (1 << 63) - 1, 1)]
)
def test_a_file_past_the_end_of_the_disk_is_refused(run):
    with pytest.raises(Malformed):
        wire.decoded(wire.encoded(chart_of([run])), SIZE)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", json.dumps({"systems": 1}).encode()])
def test_what_is_no_chart_is_refused(data):
    with pytest.raises(Malformed):
        wire.decoded(data, SIZE)
