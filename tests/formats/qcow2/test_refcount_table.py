"""Tests of the refcount table, and of counting used clusters without arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.formats.qcow2.refcount_table import used_clusters
from cowherd.formats.qcow2.refcounts import unpack_counts

WORDS = st.sampled_from([bytes(8), b"\0" * 7 + b"\1", b"\x80" + bytes(7)]) | st.binary(min_size=8, max_size=8)


@pytest.mark.parametrize("order", range(7))
@given(words=st.lists(WORDS))
def test_used_clusters_are_those_whose_count_is_not_0(order, words):
    block = b"".join(words)
    assert used_clusters(block, order) == np.count_nonzero(unpack_counts(block, order))
