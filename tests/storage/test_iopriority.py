"""The idle I/O class, as ionice(1) sees it."""

from __future__ import annotations

import shutil
import subprocess
import threading

import pytest

from cowherd.storage.iopriority import be_idle


def test_a_thread_and_those_that_it_starts_are_idle_and_no_other():
    if shutil.which("ionice") is None:
        pytest.skip("ionice is not installed")
    seen: dict[str, str] = {}

    def ask(name: str) -> None:
        command = ["ionice", "-p", str(threading.get_native_id())]
        seen[name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def work() -> None:
        if not be_idle():
            seen["worker"] = seen["its own"] = "idle"
            return
        ask("worker")
        own = threading.Thread(target=ask, args=("its own",))
        own.start()
        own.join()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    ask("caller")
    assert (seen["worker"], seen["its own"]) == ("idle", "idle")
    assert seen["caller"] != "idle"
