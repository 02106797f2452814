"""Runs `turns` for some minutes: `python -m tests.differential --minutes 60`; ends with what was done."""

from __future__ import annotations

import argparse
import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.differential.turns import Turns, figures

_AT_ONCE = 10
"""Sequences after which the clock is looked at."""


def main() -> None:
    """Tries sequences until the time is over; one that fails is printed, and ends the run."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long to go on (default: 60)")
    begin = time.monotonic()
    end = begin + parser.parse_args().minutes * 60
    chosen = settings(
        max_examples=_AT_ONCE,
        stateful_step_count=25,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    try:
        while time.monotonic() < end:
            run_state_machine_as_test(Turns, settings=chosen)
    finally:
        spent = (time.monotonic() - begin) / 60
        print(f"{spent:.0f} minutes:", ", ".join(f"{number} {what}" for what, number in sorted(figures.items())), flush=True)


if __name__ == "__main__":
    main()
