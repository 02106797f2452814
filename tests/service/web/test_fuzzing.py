"""Whatever is asked, the service answers as it tells, and never fails."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.service.web.fuzzing import OPERATIONS, attacked, requests_to


@pytest.fixture(scope="module", params=["none", "tokens"])
def attack(request, tmp_path_factory):
    with attacked(tmp_path_factory.mktemp("attacked"), request.param) as attack:
        yield attack


@pytest.mark.parametrize("part", range(4))
def test_every_answer_is_as_the_description_tells(attack, part):
    # One service takes all: so nothing is tried again in a smaller form, which would meet it in another state.
    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=4,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*map(requests_to, OPERATIONS[part::4])))
    def some(asked):
        attack.run(asked)

    some()
