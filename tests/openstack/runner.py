"""Runs tests of installed packages: a program for the peers' own Python, which has none of cowherd's modules.

usage: runner.py --part 0 --of 4 --to FILE NAME...   NAME is a package, a module or a class; FILE gets one JSON line a test.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class Recorded(unittest.TestResult):
    """Writes down how each test ended, as soon as it has."""

    def __init__(self, to: TextIO):
        super().__init__()
        self._to, self._began = to, time.monotonic()

    def startTest(self, test: Any) -> None:  # noqa: N802 - unittest calls it so
        """Starts the clock."""
        super().startTest(test)
        self._began = time.monotonic()

    def addSuccess(self, test: Any) -> None:  # noqa: N802 - unittest calls it so
        """Notes a test that passed."""
        self._note(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest calls it so
        """Notes a test that failed."""
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest calls it so
        """Notes a test, or what a class has set up, that raised."""
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802 - unittest calls it so
        """Notes a test, or a whole class, that was skipped."""
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest calls it so
        """Notes a test that fails as it says it does."""
        self._note(test, "passed")

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802 - unittest calls it so
        """Notes a test that passes though it says that it does not."""
        self._note(test, "failed", "unexpected success")

    def _note(self, test: Any, outcome: str, detail: str = "") -> None:
        seconds = round(time.monotonic() - self._began, 3)
        line = {"id": test.id(), "outcome": outcome, "seconds": seconds, "detail": detail}
        print(json.dumps(line), file=self._to, flush=True)


def load(name: str) -> unittest.TestSuite:
    """Returns the tests of a package (with those below it), a module, or a class."""
    loader = unittest.TestLoader()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return loader.loadTestsFromName(name)
    if not hasattr(module, "__path__"):
        return loader.loadTestsFromModule(module)
    folder = Path(module.__path__[0])
    return loader.discover(str(folder), top_level_dir=str(folder.parents[name.count(".")]))


def flat(suite: Any) -> Iterator[unittest.TestCase]:
    """Yields the single tests of a suite."""
    for test in suite:
        yield from flat(test) if isinstance(test, unittest.TestSuite) else [test]


def main() -> None:
    """Runs every `of`-th class, from the `part`-th on: a class stays whole, for what it sets up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", type=int, required=True)
    parser.add_argument("--of", type=int, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    classes: dict[str, list[unittest.TestCase]] = {}
    for name in arguments.names:
        for test in flat(load(name)):
            classes.setdefault(f"{type(test).__module__}.{type(test).__qualname__}", []).append(test)
    with arguments.to.open("w") as to:
        for name in sorted(classes)[arguments.part :: arguments.of]:
            unittest.TestSuite(classes[name]).run(Recorded(to))


if __name__ == "__main__":
    main()
