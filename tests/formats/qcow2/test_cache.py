from __future__ import annotations

import numpy as np

from cowherd.formats.qcow2.cache import TableCache


def table(words: int = 1) -> np.ndarray:
    return np.zeros((words, 1), np.uint64)


def test_the_table_that_was_used_longest_ago_is_dropped_first():
    cache, tables = TableCache(16), [table() for _ in range(3)]
    cache.put(("a", 0), tables[0])
    cache.put(("b", 0), tables[1])
    assert cache.get(("a", 0)) is tables[0]
    cache.put(("a", 1), tables[2])
    assert [cache.get(key) is not None for key in (("a", 0), ("b", 0), ("a", 1))] == [True, False, True]


def test_a_table_larger_than_the_cache_is_kept_until_the_next_comes():
    cache = TableCache(8)
    cache.put(("a", 0), table(2))
    assert cache.get(("a", 0)) is not None
    cache.put(("a", 1), table())
    assert cache.get(("a", 0)) is None
    assert cache.get(("a", 1)) is not None


def test_a_table_that_was_taken_out_or_replaced_takes_no_room():
    cache = TableCache(16)
    for _ in range(5):
        cache.put(("a", 0), table())
    assert cache.pop(("a", 0)) is not None
    assert cache.pop(("a", 0)) is None
    for owner in "bc":
        cache.put((owner, 0), table())
    assert cache.get(("b", 0)) is not None
