"""Whatever is asked, the service answers as it tells, and never fails."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.service.web.fuzzing import Asked, attacked, requests


@pytest.fixture(scope="module")
def attack(tmp_path_factory):
    with attacked(tmp_path_factory.mktemp("attacked")) as attack:
        yield attack


# One service takes all: so nothing is tried again in a smaller form, which would meet it in another state.
@settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(asked=st.lists(requests(), min_size=4, max_size=12))
def test_every_answer_is_as_the_description_tells(attack, asked: list[Asked]):
    attack.run(asked)
