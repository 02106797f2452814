"""What waits for arrays, in a Python that has not made any yet."""

from __future__ import annotations

import subprocess
import sys

from cowherd import arrays

WAITING = """
from cowherd import arrays
done = []
arrays.when_in_use(lambda: done.append(1))
before = list(done)
import cowherd.extents
print(before, done)
"""


def test_what_waits_is_done_when_numpy_is_imported_and_not_before():
    done = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, check=True)
    assert done.stdout == "[] [1]\n"


def test_it_is_done_at_once_where_numpy_has_been_imported():
    import cowherd.extents  # noqa: F401

    done: list[int] = []
    arrays.when_in_use(lambda: done.append(1))
    assert done == [1]
