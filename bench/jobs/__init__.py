"""Every row of the benchmark, in the order of the table."""

from __future__ import annotations

from bench.job import Job
from bench.jobs import api, catalog, chains, changes, compare, convert, herd, siblings, starting, tables

JOBS: tuple[Job, ...] = (
    *convert.JOBS,
    *chains.JOBS,
    *changes.JOBS,
    *compare.JOBS,
    *tables.JOBS,
    *starting.JOBS,
    *herd.JOBS,
    *catalog.JOBS,
    *siblings.JOBS,
    *api.JOBS,
)
