"""What is measured of a service: each function takes one that runs, and returns a figure by its unit."""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.service.peers import COWHERD, Service

Figures = dict[str, float]
"""Figures by what they are, with their unit."""
MIB = 1 << 20


def upload(service: Service, path: Path) -> Figures:
    """A PUT of a file with a content that the service never had, as it might keep one that it has only once."""
    _renew(path)
    image = service.client.create()
    with _costs(service) as costs:
        service.client.put(image, path)
    service.client.ask("DELETE", f"/v2/images/{image}")
    return {"MB/s": path.stat().st_size / 1e6 / costs["s"], "CPU s": costs["CPU s"]}


def four_uploads(service: Service, paths: list[Path]) -> Figures:
    """PUTs of several files at once, in sum, each with a content that is new."""
    for path in paths:
        _renew(path)
    images = [service.client.create() for _ in paths]
    with _costs(service) as costs, concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(service.client.put, images, paths))
    for image in images:
        service.client.ask("DELETE", f"/v2/images/{image}")
    return {"MB/s": sum(path.stat().st_size for path in paths) / 1e6 / costs["s"], "CPU s": costs["CPU s"]}


def _renew(path: Path) -> None:
    """Gives a file of random bytes others at its beginning."""
    with path.open("r+b") as file:
        file.write(random.randbytes(MIB))


def sparse_upload(service: Service, path: Path) -> Figures:
    """A PUT of a file with holes: how much of it the store keeps."""
    before, image = service.stored(), service.client.create()
    with _costs(service) as costs:
        service.client.put(image, path)
    stored = service.stored() - before
    service.client.ask("DELETE", f"/v2/images/{image}")
    return {"stored MiB": stored / MIB, "s": costs["s"]}


def download(service: Service, image: str, length: int) -> Figures:
    """A GET of a content, and of a MiB in its middle."""
    with _costs(service) as costs:
        got = service.client.get(image)
    assert got >= length
    with _costs(service) as part:
        for _ in range(20):
            service.client.get(image, f"{length // 2}-{length // 2 + MIB - 1}")
    figures = {"MB/s": length / 1e6 / costs["s"], "CPU s": costs["CPU s"]}
    return {**figures, "ms for a MiB of it": part["s"] / 20 * 1000} if service.name == COWHERD else figures


def asked(service: Service, path: str, times: int = 50) -> Figures:
    """The time of an answer on a connection that is kept: the median, and the slowest of twenty."""
    with service.client.connected() as connection:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            service.client.ask("GET", path, on=connection)
            taken.append((time.perf_counter() - began) * 1000)
    return {"p50 ms": statistics.median(taken), "p95 ms": sorted(taken)[int(times * 0.95)]}


def walk(service: Service, number: int) -> Figures:
    """The time to list all images, in pages of 1,000."""
    began = time.perf_counter()
    path, seen = "/v2/images?limit=1000", 0
    with service.client.connected() as connection:
        while path:
            page = service.client.ask("GET", path, on=connection)
            seen += len(page["images"])
            path = page.get("next")
            assert seen <= 2 * number, "the pages have no end"
    assert seen >= number, seen
    return {"s": time.perf_counter() - began}


def creates(service: Service, clients: int = 8, seconds: float = 5.0) -> Figures:
    """How many images a second several clients make, each made durably; and how many requests failed."""
    made, failed = [0] * clients, [0] * clients
    ends = time.monotonic() + seconds

    def make(number: int) -> None:
        with service.client.connected() as connection:
            while time.monotonic() < ends:
                connection.request("POST", "/v2/images", b'{"name": "made"}', {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                (made if answer.status == 201 else failed)[number] += 1

    threads = [threading.Thread(target=make, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"creates/s": sum(made) / seconds, "failed": sum(failed)}


def list_beside_downloads(service: Service, image: str, number: int) -> Figures:
    """The time of a page while so many downloads are open that nobody reads."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(service.client.begun(image, window=4096))
        time.sleep(1)
        return asked(service, "/v2/images?limit=25")


def memory(service: Service, image: str, paths: list[Path], downloads: int) -> Figures:
    """The memory after the first answer, and the most of it under uploads and slow downloads at once.

    `most` is that of the process that answers; those that inspect what was stored come on top, for a moment each (`with all`).
    """
    most = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.05):
            most = max(most, service.memory())

    watching = threading.Thread(target=watch)
    watching.start()
    with contextlib.ExitStack() as stack:
        for _ in range(downloads):
            stack.enter_context(service.client.begun(image, window=4096))
        four_uploads(service, paths)
    ended.set()
    watching.join()
    return {"idle MiB": service.idle / MIB, "most MiB": service.highest() / MIB, "with all MiB": most / MIB}


@contextlib.contextmanager
def _costs(service: Service) -> Iterator[Figures]:
    """Fills in the seconds that the block takes, and those of CPU that the service takes meanwhile."""
    costs: Figures = {}
    cpu, began = service.cpu(), time.perf_counter()
    yield costs
    costs["s"] = time.perf_counter() - began
    costs["CPU s"] = service.cpu() - cpu
