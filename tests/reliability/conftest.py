"""Says at the end of a run how much was tried; with -v, of each job."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

WORDS = {
    "states": "states after crashes",
    "seconds": "states after crashes of a second run",
    "faults": "faults injected",
    "flushes": "flushes that failed",
    "killed": "processes killed",
}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Sums up what passed tests counted."""
    totals: Counter[str] = Counter()
    lines = []
    for report in terminalreporter.stats.get("passed", []):
        for name, number in report.user_properties:
            if name in WORDS and (job := re.search(r"\[(.*)\]", report.nodeid)):
                totals[name] += number
                lines.append(f"{number:6} {WORDS[name]}: {job[1]}")
            elif name == "done":
                lines.append(", ".join(f"{words}: {times}" for words, times in sorted(number.items())))
    if terminalreporter.verbosity > 0:
        for line in sorted(lines, key=lambda line: line.split(": ")):
            terminalreporter.write_line(line)
    for name, number in totals.items():
        terminalreporter.write_line(f"{number} {WORDS[name]}, all survived")
