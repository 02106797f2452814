"""The rows of the table: what is done, by whom, and what is to be reached."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.service import figures as measured
from bench.service.figures import MIB, Figures
from bench.service.peers import Service, cowherd, fill_cowherd, glance
from tests.openstack.peers import Peers

_SPARSE_DATA_BYTES = 300 * MIB


@dataclass(frozen=True)
class Place:
    """Where the benchmark works: a folder in memory, the size of a content there, and how many images a list has."""

    folder: Path
    content_bytes: int
    few: int
    many: int
    peers: Peers | None

    def content(self, number: int = 0, share: int = 1) -> Path:
        """Returns a file of random bytes, one of several; `share`: a part of the full size."""
        path = self.folder / f"content-{number}-{share}"
        if not path.exists():
            with path.open("wb") as file:
                for _ in range(self.content_bytes // share // MIB):
                    file.write(random.randbytes(MIB))
        return path

    def sparse(self) -> Path:
        """Returns a file ten times as large, with little data in pieces that lie apart."""
        path, size = self.folder / "sparse", 10 * self.content_bytes
        if not path.exists():
            pieces = min(_SPARSE_DATA_BYTES, self.content_bytes // 4) // MIB
            with path.open("wb") as file:
                os.truncate(file.fileno(), size)
                for number in range(pieces):
                    os.pwrite(file.fileno(), random.randbytes(MIB), number * (size // pieces) // MIB * MIB)
        return path


Start = Callable[[Place, Path], contextlib.AbstractContextManager[Service]]


@dataclass(frozen=True)
class Row:
    """A job: `measure` is called for each service several times. `goals` say what is to be reached, by the figure's unit.

    `images` are recorded before; `words` are settings of cowherd's; `peer`: whether Glance does it too.
    """

    name: str
    title: str
    measure: Callable[[Place, Service, str], Figures]
    goals: dict[str, str] = field(default_factory=dict)
    images: Callable[[Place], int] = lambda place: 0
    words: Sequence[str] = ()
    peer: bool = True
    content: bool = False

    def services(self, place: Place) -> Iterator[tuple[str, contextlib.AbstractContextManager[Service]]]:
        """Gives who does it, each to be started."""
        number = self.images(place)
        if self.peer and place.peers:
            yield "theirs", glance(place.peers, place.folder / "glance", number)
        yield "ours", cowherd(place.folder / "cowherd", self.words, fill_cowherd(number) if number else None)


def _few(place: Place) -> int:
    return place.few


def _many(place: Place) -> int:
    return place.many


def _page(path: str) -> Callable[[Place, Service, str], Figures]:
    return lambda place, service, image: measured.asked(service, path)


ROWS = (
    Row("put", "PUT of {content}, md5 + sha512", lambda place, service, image: measured.upload(service, place.content()),
        {"MB/s": "2.5 times Glance", "CPU s": "4.3 a GiB"}),
    Row("put-sha256", "the same, os_hash_algo sha256 and no md5",
        lambda place, service, image: measured.upload(service, place.content()), {"MB/s": "600"},
        words=("--hash-algorithm", "sha256", "--md5", "false"), peer=False),
    Row("put-four", "four PUTs of {quarter} at once",
        lambda place, service, image: measured.four_uploads(service, [place.content(number, 4) for number in range(4)]),
        {"MB/s": "as one"}),
    Row("put-sparse", "PUT of ten times as much, nearly all of it zeros",
        lambda place, service, image: measured.sparse_upload(service, place.sparse()), {"stored MiB": "the data + 1 %"}),
    Row("get", "GET of {content}", lambda place, service, image: measured.download(service, image, place.content_bytes),
        {"MB/s": "1,600", "CPU s": "0.6 a GiB"}, content=True),
    Row("page-few", "page of 25 of {few} images", _page("/v2/images"), {"p50 ms": "3"}, _few),
    Row("page-many", "page of 25 of {many} images", _page("/v2/images"), {"p50 ms": "5"}, _many),
    Row("page-1000", "page of 1,000 of {few}", _page("/v2/images?limit=1000"), {"p50 ms": "40"}, _few),
    Row("walk", "all {few} in pages of 1,000", lambda place, service, image: measured.walk(service, place.few),
        {"s": "0.5"}, _few),
    Row("by-tag", "25 of {many} by tag", _page("/v2/images?tag=tenth"), {"p50 ms": "10"}, _many),
    Row("by-property", "by a property that one of a hundred has", _page("/v2/images?hundredth=yes"), {"p50 ms": "10"}, _many),
    Row("by-name", "by name", _page("/v2/images?name=image-000077"), {"p50 ms": "10"}, _many),
    Row("one", "GET of one of {many} images", _page("/v2/images/00000000-0000-0000-0000-000000000011"), {"p50 ms": "3"}, _many),
    Row("creates", "creates by 8 clients, each durable", lambda place, service, image: measured.creates(service),
        {"creates/s": "300", "failed": "0"}),
    Row("beside", "page of 25 beside 400 downloads that nobody reads",
        lambda place, service, image: measured.list_beside_downloads(service, image, 400), {"p50 ms": "5"},
        content=True, peer=False),
    Row("memory", "memory: idle, and with 8 uploads and 100 slow downloads",
        lambda place, service, image: measured.memory(
            service, image, [place.content(number, 8) for number in range(8)], 100),
        {"idle MiB": "60", "most MiB": "100"}, content=True, peer=False),
    Row("start", "the first answer after a start, {many} images", lambda place, service, image: {"s": service.started_in},
        {"s": "1"}, _many),
)  # fmt: skip
