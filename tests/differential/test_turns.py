"""A short run of `turns`; `make differential MINUTES=60` goes on for longer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.differential.turns import Turns
from tests.images import examples

TestTurns = pytest.mark.qemu("qemu-io")(Turns.TestCase)
TestTurns.settings = settings(
    max_examples=examples(8),
    stateful_step_count=8,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
