"""What the processes of the service count, for those who watch over it.

The numbers lie in memory that all of them share. Each process adds to a row of its own, so that nobody waits for another; whoever
reads adds the rows up. A process that takes the place of one that died goes on with its row, so nothing is forgotten before the
service ends. prometheus_client can do it by files, but leaves one for each process that ever lived, in a directory that somebody
has to name before it is imported and to empty at each start; and nothing could be counted where it is not installed.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST = 2048
"""How many numbers a process may count; of what it has no number for, nothing is counted."""
MOST_NAME_BYTES = 96
"""The longest name of a number: that of what is counted, and its labels."""
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""The bounds of what is timed, in seconds."""
_VALUE_BYTES = 8
_ROW_BYTES = MOST * (_VALUE_BYTES + MOST_NAME_BYTES)
_SUM = "sum"


class Counted(NamedTuple):
    """What is counted: its name, what is said about it, and the names of its labels."""

    name: str
    about: str
    labels: tuple[str, ...]


REQUESTS = Counted(
    "cowherd_requests", "Requests by kind and by the class of their status; gone: the client was.", ("kind", "status")
)
RECEIVED = Counted("cowherd_received_bytes", "Bytes of the bodies of requests.", ("kind",))
SENT = Counted("cowherd_sent_bytes", "Bytes of the bodies of answers.", ("kind",))
REFUSED = Counted("cowherd_refused", "Contents that were refused, by the check that refused them.", ("check",))
DAMAGED = Counted("cowherd_blobs_found_damaged", "Times that content in a store was found to be damaged.", ("store",))
MISSING = Counted("cowherd_blobs_found_missing", "Times that content was found to be missing in a store.", ("store",))
REPAIRED = Counted("cowherd_blobs_repaired", "Times that damaged or missing content became whole again.", ("store",))
SCRUBBED = Counted("cowherd_scrubbed_bytes", "Bytes of content that were verified because they were due.", ("store",))
COUNTERS = (REQUESTS, RECEIVED, SENT, REFUSED, DAMAGED, MISSING, REPAIRED, SCRUBBED)

UNDER_WAY = Counted("cowherd_requests_under_way", "Requests that are being answered.", ("kind",))
GAUGES = (UNDER_WAY,)

LASTED = Counted("cowherd_request_seconds", "How long requests took until the end of their answer.", ("kind",))
WAITED = Counted(
    "cowherd_database_wait_seconds", "How long transactions waited for a connection, and for the lock if they write.", ("kind",)
)
TIMED = (LASTED, WAITED)


class Buckets(NamedTuple):
    """What was timed: how often it took more than the bound before and at most this one (`BOUNDS`, and then infinity)."""

    counts: tuple[float, ...]
    seconds: float


class Rows:
    """Numbers by their names, in memory that is shared with the processes that this one forks: `count` rows of them."""

    def __init__(self, count: int):
        self._count = count
        self._memory = memoryview(mmap.mmap(-1, count * _ROW_BYTES))
        self.use(count - 1)

    def use(self, row: int) -> None:
        """Has this process add to a row from now on, which no other one may do."""
        self._lock = threading.Lock()  # an addition is several steps, between which another thread may come
        self._values, self._names = self._parts(row)
        self._places = {name: place for place, name in enumerate(_read_names(self._names))}

    def add(self, name: str, by: float) -> None:
        """Adds to a number, which begins at 0."""
        with self._lock:
            place = self._places.get(name)
            if place is None:
                place = self._new(name)
            if place is not None:
                self._values[place] += by

    def clear(self, prefix: str) -> None:
        """Makes the numbers of this process 0 whose names begin with `prefix`."""
        for name, place in self._places.items():
            if name.startswith(prefix):
                self._values[place] = 0.0

    def totals(self) -> Mapping[str, float]:
        """Returns the numbers of all processes, added up."""
        found: defaultdict[str, float] = defaultdict(float)
        for row in range(self._count):
            values, names = self._parts(row)
            for place, name in enumerate(_read_names(names)):
                found[name] += values[place]
        return found

    def _new(self, name: str) -> int | None:
        raw, place = name.encode(), len(self._places)
        if place == MOST or len(raw) > MOST_NAME_BYTES:
            return None
        begin = place * MOST_NAME_BYTES
        self._names[begin + 1 : begin + len(raw)] = raw[1:]
        self._names[begin] = raw[0]  # last, since without it nobody sees a name there
        self._places[name] = place
        return place

    def _parts(self, row: int) -> tuple[memoryview[float], memoryview[int]]:
        whole = self._memory[row * _ROW_BYTES : (row + 1) * _ROW_BYTES]
        return whole[: MOST * _VALUE_BYTES].cast("d"), whole[MOST * _VALUE_BYTES :]


def _read_names(names: memoryview) -> Iterator[str]:
    for begin in range(0, len(names), MOST_NAME_BYTES):
        raw = bytes(names[begin : begin + MOST_NAME_BYTES])
        if not raw[0]:
            return
        yield raw.rstrip(b"\0").decode()


_rows = Rows(1)


def share(processes: int) -> None:
    """Makes room for so many processes that this one will fork, and for itself. What was counted before is dropped."""
    global _rows  # noqa: PLW0603  # what all parts of a process count
    _rows = Rows(processes + 1)


def be_process(number: int) -> None:
    """Called by a forked process that takes the place `number`, from 0 on: it goes on with the numbers of its predecessor."""
    _rows.use(number)
    for gauge in GAUGES:
        _rows.clear(gauge.name + "\n")


def add(what: Counted, *labels: str, by: float = 1.0) -> None:
    """Adds to what is counted."""
    _rows.add("\n".join((what.name, *labels)), by)


def observe(what: Counted, seconds: float, *labels: str) -> None:
    """Counts what took so long."""
    place = bisect_left(BOUNDS, seconds)
    add(what, *labels, str(place))
    add(what, *labels, _SUM, by=seconds)


def totals() -> dict[str, dict[tuple[str, ...], float]]:
    """Returns what all processes counted: by its name, and then by its labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for text, value in _rows.totals().items():
        name, *labels = text.split("\n")
        found.setdefault(name, {})[tuple(labels)] = value
    return found


def buckets(values: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], Buckets]:
    """Returns what was timed, by its labels, of what `totals` says about it."""
    return {
        tuple(labels): Buckets(tuple(values.get((*labels, str(place)), 0.0) for place in range(len(BOUNDS) + 1)), seconds)
        for (*labels, last), seconds in values.items()
        if last == _SUM
    }
