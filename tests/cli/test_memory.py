"""What the allocator keeps."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource, sys
if sys.argv[1] == "keep":
    from cowherd.cli.memory import keep_freed_memory
    keep_freed_memory()
import numpy
import cowherd.extents
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    pieces = [numpy.ones(1 << 20, numpy.uint8) for _ in range(4)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no such choice")
def test_memory_that_is_wanted_again_is_not_cleared_anew_by_the_kernel():
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PAGE_FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < faults("give back") / 4
