"""How fast the records of the image service are: pages and filters of many images, and durable creates of several threads.

python image_records.py DIRECTORY IMAGES [REPEATS]    prints the median milliseconds of each query, and creates a second

The database is made in DIRECTORY, and left there: another run uses it again.
"""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from cowherd.service.records import schema
from cowherd.service.records.database import Database, open_database
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, read_image
from cowherd.service.records.migration import migrate
from cowherd.service.records.pages import Query, Viewer, page

REPEATS, WRITERS = 100, 8
BATCH = 10_000
PROJECTS, VISIBILITIES = 10, ("public", "private", "shared", "community")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Does what the command line asks for."""
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    repeats = int(sys.argv[3]) if len(sys.argv) > 3 else REPEATS
    path = directory / f"records-{count}.db"
    is_new = not path.exists()
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    if is_new:
        _fill(database, count)
    _measure_queries(database, count, repeats)
    _measure_creates(database, repeats)
    database.close()


def _fill(database: Database, count: int) -> None:
    ids = [str(uuid.UUID(int=random.Random(number).getrandbits(128))) for number in range(count)]
    for start in range(0, count, BATCH):
        with database.write() as connection:
            some = range(start, min(start + BATCH, count))
            connection.execute(insert(schema.images), [_image(number, ids[number]) for number in some])
            facts = [(number, {"image_id": ids[number], "created_at": _age(number)}) for number in some]
            connection.execute(insert(schema.tags), [{**row, "tag": tag} for number, row in facts for tag in _tags(number)])
            rows = [{**row, "name": k, "value": v} for number, row in facts for k, v in _properties(number).items()]
            connection.execute(insert(schema.properties), rows)


def _age(number: int) -> datetime:
    return FIRST + timedelta(seconds=number // 3)


def _image(number: int, image_id: str) -> dict[str, object]:
    return {
        "id": image_id,
        "name": f"image-{number}",
        "status": "active",
        "visibility": VISIBILITIES[number % len(VISIBILITIES)],
        "protected": False,
        "os_hidden": False,
        "owner": f"project-{number % PROJECTS}",
        "size": number,
        "container_format": "bare",
        "disk_format": "qcow2",
        "min_ram": 0,
        "min_disk": 0,
        "created_at": _age(number),
        "updated_at": _age(number),
        "version": 1,
        "properties": _properties(number),
        "tags": _tags(number),
        "locations": [],
    }


def _properties(number: int) -> dict[str, str]:
    return {"os_type": "linux", "serial": f"{number}", "group": f"{number % 1000}"}


def _tags(number: int) -> list[str]:
    return ["all", f"of-{number % 1000}"]


def _measure_queries(database: Database, count: int, repeats: int) -> None:
    member, admin, stranger = Viewer("project-1"), Viewer("project-1", everything=True), Viewer("nobody's")
    with database.read() as connection:
        last = page(connection, Query(limit=1000), member)[-1].id
    queries = {
        "page of 25": (member, Query()),
        "page of 25, administrator": (admin, Query()),
        "page of 25 after 1,000": (member, Query(marker=last)),
        "page of 1,000": (member, Query(limit=1000)),
        "by a tag of one in 1,000": (member, Query(tags=["of-21"])),
        "by a tag of all": (member, Query(tags=["all"])),
        "by both tags": (member, Query(tags=["all", "of-21"])),
        "by a property of one": (admin, Query(properties={"serial": f"{count // 2}"})),
        "by a property of all": (member, Query(properties={"os_type": "linux"})),
        "by a property of all, private": (stranger, Query(properties={"os_type": "linux"}, visibility="private")),
        "by two properties": (member, Query(properties={"os_type": "linux", "group": "21"})),
        "by a name": (admin, Query(choices={"name": [f"image-{count // 2}"]})),
        "by a state that none has": (member, Query(choices={"status": ["queued"]})),
        "sorted by name": (member, Query(sort=[("name", False)])),
    }
    for title, (viewer, query) in queries.items():
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            with database.read() as connection:
                found = page(connection, query, viewer)
            taken.append(time.perf_counter() - start)
        print(f"{title:32} {statistics.median(taken) * 1000:8.2f} ms, {len(found)} images")


def _measure_creates(database: Database, repeats: int) -> None:
    started = time.perf_counter()

    def create() -> None:
        for _ in range(repeats):
            image = Image(id=str(uuid.uuid4()), name="new", owner="project-1", properties={"os_type": "linux"}, tags=("all",))
            with database.write() as connection:
                create_image(connection, image)
            with database.read() as connection:
                read_image(connection, image.id)

    threads = [threading.Thread(target=create) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{'creates of 8 threads, durable':32} {WRITERS * repeats / (time.perf_counter() - started):8.0f} a second")


if __name__ == "__main__":
    main()
