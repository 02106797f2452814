"""Hashing beside storing: every thread sees every block, in order, and what one raises ends the work."""

from __future__ import annotations

import errno
import hashlib
import threading
import time

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from cowherd.service.intake import hashing
from cowherd.service.intake.hashing import IN_FLIGHT, Hasher
from cowherd.storage.hostfile import Buffer
from cowherd.stores.sums import Summing
from tests.waiting import wait_until


def sums_of(data: bytes):
    summing = Summing()
    summing.update(data)
    return summing.finish()


@given(st.lists(st.binary(max_size=100), max_size=10), st.lists(st.sampled_from(["md5", "sha256", "sha512"]), unique=True))
def test_digests_are_those_of_all_blocks_in_order(blocks: list[bytes], names: list[str]):
    taken = bytearray()
    hasher = Hasher(names, taken.extend)
    for block in blocks:
        hasher.feed(block)
    found, data = hasher.finish(), b"".join(blocks)
    assert found.size == len(data)
    assert found.blake3 == blake3(data).hexdigest()
    assert found.named == {name: hashlib.new(name, data).hexdigest() for name in names}
    assert found.sums == sums_of(data)
    assert taken == data


def test_one_that_is_slow_holds_the_feeding_up(monkeypatch):
    monkeypatch.setattr(hashing, "PROCESSORS", 2)
    gate, taken = threading.Event(), []

    def slow(block: Buffer) -> None:
        gate.wait(30)
        taken.append(block)

    hasher = Hasher((), slow)
    fed = []

    def feed() -> None:
        for number in range(IN_FLIGHT + 5):
            hasher.feed(bytes([number]))
            fed.append(number)

    feeder = threading.Thread(target=feed)
    feeder.start()
    wait_until(lambda: len(fed) >= IN_FLIGHT)
    time.sleep(0.05)
    assert len(fed) == IN_FLIGHT  # one is being taken, the others wait
    gate.set()
    feeder.join()
    hasher.finish()
    assert taken == [bytes([number]) for number in range(IN_FLIGHT + 5)]


def test_a_thread_that_feeds_beside_as_many_as_there_are_processors_takes_the_blocks_itself_and_in_order(monkeypatch):
    gate, taken = threading.Event(), []

    def take(block: Buffer) -> None:
        gate.wait(30)
        taken.append((bytes(block), threading.current_thread() is threading.main_thread()))

    hasher = Hasher(("md5",), take)
    for block, processors in ((b"1", 2), (b"2", 1)):  # the second waits behind the first
        monkeypatch.setattr(hashing, "PROCESSORS", processors)
        hasher.feed(block)
    gate.set()
    wait_until(lambda: len(taken) == 2)
    fed = [b"1", b"2"]

    def feeds_until_it_takes_one() -> bool:
        fed.append(b"%d" % len(fed))
        hasher.feed(fed[-1])
        return taken[-1] == (fed[-1], True)

    wait_until(feeds_until_it_takes_one)
    assert hasher.finish().named == {"md5": hashlib.md5(b"".join(fed)).hexdigest()}
    assert [block for block, _ in taken] == fed
    assert not taken[0][1]


@pytest.mark.parametrize("processors", [1, 2])
@pytest.mark.parametrize("blocks", [1, 50])
def test_what_a_taker_raises_is_raised_to_who_feeds_and_the_rest_is_dropped(blocks: int, processors: int, monkeypatch):
    monkeypatch.setattr(hashing, "PROCESSORS", processors)
    taken = []

    def full(block: Buffer) -> None:
        taken.append(block)
        raise OSError(errno.ENOSPC, "full")

    hasher = Hasher(("md5",), full)

    def work() -> None:
        for _ in range(blocks):
            hasher.feed(b"x")
        hasher.finish()

    with pytest.raises(OSError, match="full"):
        work()
    hasher.abandon()
    assert len(taken) == 1


def test_abandoning_leaves_no_thread_behind_and_can_be_repeated():
    before = threading.active_count()
    hasher = Hasher(("md5", "sha512"), lambda _: time.sleep(0.01))
    for _ in range(5):
        hasher.feed(b"x")
    hasher.abandon()
    hasher.abandon()
    assert threading.active_count() == before


def test_an_unknown_digest_starts_no_thread():
    before = threading.active_count()
    with pytest.raises(ValueError, match="nothing-of-the-kind"):
        Hasher(("md5", "nothing-of-the-kind"))
    assert threading.active_count() == before
