"""A body goes to a thread block for block: in order, never two at a time, and whatever ends it, the thread has ended too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cowherd.service.intake.hashing import BLOCK_BYTES
from cowherd.service.web.call import ClientGone
from cowherd.service.web.errors import BodyStalled
from cowherd.service.web.feeding import feed_body
from tests.waiting import DEADLINE_SECONDS, wait_until


class Body:
    """A call whose body has these parts; after them `ends` is raised, or for ever waited for if that is `never`."""

    never = Exception()

    def __init__(self, *parts: bytes, ends: Exception | None = None):
        self.given = 0
        self._parts, self._ends = parts, ends

    async def parts(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            self.given += 1
            yield part
            await asyncio.sleep(0)
        if self._ends is self.never:
            await asyncio.Event().wait()
        if self._ends is not None:
            raise self._ends


def feed(body: Any, take: Callable[[Any], object]) -> None:
    asyncio.run(asyncio.wait_for(feed_body(body, take), DEADLINE_SECONDS))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    before = threading.active_count()
    yield
    wait_until(lambda: threading.active_count() <= before)


def test_all_of_a_body_is_taken_in_order_by_one_call_at_a_time() -> None:
    parts = [bytes([number % 251]) * (1 + number * 7919 % (BLOCK_BYTES + 5000)) for number in range(60)]
    taken, under_way = [], threading.Lock()

    def take(block: Any) -> None:
        assert under_way.acquire(blocking=False)
        taken.append(bytes(block))
        under_way.release()

    feed(Body(*parts), take)
    assert b"".join(taken) == b"".join(parts)


def test_no_more_than_a_few_blocks_wait_for_a_thread_that_is_slow() -> None:
    body = Body(*[bytes(BLOCK_BYTES)] * 40)
    ahead, taken = [], []

    def take(block: Any) -> None:
        taken.append(block)
        if len(taken) == 5:  # all that can be received before this call is over
            wait_until(lambda: body.given >= 6)
            threading.Event().wait(0.2)
        ahead.append(body.given - len(taken))

    feed(body, take)
    assert len(taken) == 40
    assert max(ahead) <= 4


def test_an_error_is_told_at_once_though_the_client_sends_nothing_more() -> None:
    with pytest.raises(ValueError, match="refused"):
        feed(Body(bytes(BLOCK_BYTES), ends=Body.never), _refuse)


def test_an_error_is_told_though_the_body_is_received_faster_than_it_is_taken() -> None:
    with pytest.raises(ValueError, match="refused"):
        feed(Body(*[bytes(BLOCK_BYTES)] * 1000), _refuse)


def test_an_error_in_the_last_block_is_told() -> None:
    with pytest.raises(ValueError, match="refused"):
        feed(Body(b"end"), _refuse)


@pytest.mark.parametrize("end", [ClientGone(), BodyStalled("nothing came")], ids=["gone", "stalled"])
def test_what_came_before_the_client_was_gone_is_taken(end: Exception) -> None:
    taken = []
    with pytest.raises(type(end)):
        feed(Body(b"a" * BLOCK_BYTES, b"rest", ends=end), lambda block: taken.append(bytes(block)))
    assert b"".join(taken) == b"a" * BLOCK_BYTES + b"rest"


def test_an_error_counts_more_than_that_the_client_is_gone() -> None:
    with pytest.raises(ValueError, match="refused"):
        feed(Body(b"part", ends=ClientGone()), _refuse)


def test_a_request_that_is_cut_off_waits_for_the_call_under_way_and_drops_the_rest() -> None:
    begun, may_end, taken = threading.Event(), threading.Event(), []

    def take(block: Any) -> None:
        begun.set()
        assert may_end.wait(DEADLINE_SECONDS)
        taken.append(block)

    async def cut_off() -> None:
        feeding = asyncio.create_task(feed_body(Body(*[bytes(BLOCK_BYTES)] * 3, ends=Body.never), take))  # type: ignore[arg-type]
        await asyncio.to_thread(begun.wait, DEADLINE_SECONDS)
        feeding.cancel()
        threading.Timer(0.1, may_end.set).start()
        with pytest.raises(asyncio.CancelledError):
            await feeding
        assert len(taken) == 1

    asyncio.run(cut_off())


def _refuse(_block: Any) -> None:
    raise ValueError("refused")
