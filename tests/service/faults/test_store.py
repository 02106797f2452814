"""A disk that fails under the stores: at any call, once or from there on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.reliability.calls import interposed
from tests.reliability.faults import FAULTS, Fault, Injected
from tests.service.crashes.jobs import new_image, stored
from tests.service.crashes.world import DATA, OTHER, World
from tests.service.faults.works import WORKS, Work, no_errors_of_its_own, require_sense_of, require_well

EVERY = 1 if os.environ.get("COWHERD_FAULTS") == "all" else 41
"""Each of so many calls fails: all of them if so asked, which takes some minutes."""
TRIED = [one for one in FAULTS if one.name in ("ENOSPC", "ENOSPC from here on", "EIO", "EROFS from here on", "short")]


@pytest.mark.parametrize("fault", TRIED, ids=lambda fault: fault.name)
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_a_disk_that_fails_is_told_and_all_is_well_afterwards(work: Work, fault: Fault, new_tables: Path, tmp_path: Path):
    world = World.new(tmp_path, new_tables)
    with world.service() as service, no_errors_of_its_own():
        stored(world, service, "old", OTHER)
        number = 0
        while True:
            new_image(world, service, "new", DATA)
            stored(world, service, "spare", DATA[:-number])
            injected = Injected(world.data / "one", fault, number)
            with interposed(injected.handle):
                statuses = work(world, service)
            require_sense_of(statuses)
            require_well(world, service, statuses)
            if not injected.struck:
                break
            number += EVERY
