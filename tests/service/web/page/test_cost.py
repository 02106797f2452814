"""What the page costs: as many queries whatever there is, each by an index where the number of images matters."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event

from tests.service.web.page.furnished import add_family, damage, records


@contextlib.contextmanager
def queries() -> Iterator[list[tuple[str, object]]]:
    """Gives the queries that are made in the block, with their parameters."""
    asked: list[tuple[str, object]] = []

    def note(connection, cursor, statement, parameters, context, many) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def many(client, tmp_path):
    """A service with some families, one of them damaged; a function that adds more."""

    def add(count: int) -> str:
        with records(tmp_path) as connection:
            for number in range(count):
                family = add_family(connection, f"family-{number}", 5)
                damage(connection, family[1])
        return family[1].id

    return add


def asked_for(client, path: str) -> int:
    with queries() as asked:
        assert client.get(f"/cowherd/{path}").status == 200
    return len(asked)


def test_the_number_of_queries_is_the_same_whatever_there_is(client, many):
    counts = []
    for more in (1, 8):
        image_id = many(more)
        for path in ("", f"images/{image_id}"):
            counts.append(min(asked_for(client, path) for _ in range(3)))  # the service's own tasks ask now and then, too
    assert counts[:2] == counts[2:]
    assert max(counts) < 40


WHOLE_TABLES = (
    "SCAN images",  # the sum of all sizes
    "SCAN images USING COVERING INDEX",  # how many there are
    "SCAN blobs",
    "SCAN places USING COVERING INDEX places_by_verification",
    "SCAN uploads USING COVERING INDEX",
)


def test_no_query_reads_a_table_but_those_that_add_up(client, many, tmp_path):
    image_id = many(3)
    with queries() as asked:
        for path in ("", f"images/{image_id}", "?name=family-1"):
            assert client.get(f"/cowherd/{path}").status == 200
    scanned = {}
    with records(tmp_path) as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            for step in (row[3] for row in plan):
                if re.match("SCAN (images|blobs|places|lineage|events|members|tasks|tags|properties)", step):
                    scanned.setdefault(step, statement)
    assert not [(step, statement) for step, statement in scanned.items() if not step.startswith(WHOLE_TABLES)]
    plain = [statement for step, statement in scanned.items() if step == "SCAN images"]
    assert all("sum(images.size)" in statement for statement in plain)
