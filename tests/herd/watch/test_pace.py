"""The token bucket, by its books: with a clock that the test moves."""

from __future__ import annotations

import threading

import pytest

from cowherd.herd.watch.pace import BURST_SECONDS, Pace, Stopped, TokenBucket

RATE = 1000


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_gives_a_burst_at_once_and_not_a_byte_more():
    bucket = TokenBucket(RATE, Clock())
    assert bucket.spend(int(RATE * BURST_SECONDS)) == 0
    assert bucket.spend(100) == pytest.approx(0.1)


def test_debt_is_waited_off_at_the_rate():
    clock = Clock()
    bucket = TokenBucket(RATE, clock)
    waited = bucket.spend(5250)
    assert waited == pytest.approx(5.0)
    clock.now += waited
    assert bucket.spend(0) == pytest.approx(0)
    assert bucket.spend(1000) == pytest.approx(1.0)


def test_in_the_long_run_no_more_than_the_rate_is_read():
    clock = Clock()
    bucket = TokenBucket(RATE, clock)
    for amount in [1, 64, 4096, 300, 0, 7000] * 50:
        clock.now += bucket.spend(amount)
    read = (1 + 64 + 4096 + 300 + 7000) * 50
    assert clock.now - 100 == pytest.approx((read - RATE * BURST_SECONDS) / RATE)


def test_what_was_not_used_is_not_saved_beyond_the_burst():
    clock = Clock()
    bucket = TokenBucket(RATE, clock)
    clock.now += 3600
    assert bucket.spend(int(RATE * BURST_SECONDS) + 500) == pytest.approx(0.5)


def test_without_a_rate_nothing_waits():
    assert TokenBucket(None, Clock()).spend(1 << 60) == 0


def test_all_readers_share_one_bucket_and_are_counted_together():
    bucket = TokenBucket(None)
    pace = Pace(bucket)
    one, other = pace.progress(urgent=True), pace.progress(urgent=False)
    one(10, 100)
    one(30, 100)
    other(5, 50)
    assert pace.bytes_read == 35


def test_a_pace_that_is_stopped_ends_who_reads_also_one_that_waits_for_what_is_urgent():
    pace = Pace(TokenBucket(None))
    pace.hurry(True)
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(Stopped):
            pace.progress(urgent=False)(1, 2)
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    pace.stop()
    thread.join(10)
    assert ended.is_set()
    with pytest.raises(Stopped):
        pace.progress(urgent=True)(1, 2)


def test_while_something_urgent_is_read_the_rest_waits():
    pace = Pace(TokenBucket(None))
    pace.hurry(True)
    order: list[str] = []

    def read() -> None:
        pace.progress(urgent=False)(1, 1)
        order.append("in turn")

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(0.05)
    pace.progress(urgent=True)(1, 1)
    order.append("urgent")
    pace.hurry(False)
    thread.join(10)
    assert order == ["urgent", "in turn"]
