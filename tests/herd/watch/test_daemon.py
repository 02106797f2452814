"""The running watch: how it reports, reloads, reads in turn and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

import cowherd
from tests.herd.qemu_herd import make_base, noise, write
from tests.herd.watch.watcher import COWHERD, environment, watching
from tests.waiting import wait_until


@pytest.fixture
def herd(tmp_path, qemu_img, qemu_io):
    """A sealed base under one overlay."""
    base = make_base(tmp_path / "herd.base.qcow2", noise(8 * 65536))
    cowherd.seal(base)
    cowherd.clone(base, tmp_path / "web.qcow2")
    return base


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_at_once(herd, number):
    with watching(herd.parent) as watch:
        began = time.monotonic()
        assert watch.end(number) == 0
        assert time.monotonic() - began < 30  # it must not hang; that it takes no second shows the limit on its threads
    assert watch.kinds()[-1] == "stopped"
    assert "Traceback" not in watch.log


def test_at_its_end_it_counts_what_it_told_if_that_is_asked_for(herd, tmp_path):
    command = [*COWHERD, "watch", "--json", "--events", tmp_path / "events", tmp_path]
    process = subprocess.Popen(
        [*map(str, command)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    wait_until(lambda: (tmp_path / "events").exists() and "verified" in (tmp_path / "events").read_text())
    process.terminate()
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(printed)["events"] == {"started": 1, "verified": 1, "stopped": 1}


def test_it_ends_while_it_reads(herd):
    with watching(herd.parent, "--every", "1d", "--rate", "1k") as watch:
        write(herd, "write -P 1 0 64k")
        watch.wait_for("written", "changing")
        assert watch.end() == 0
    assert "drifted" not in watch.kinds()


def test_bases_are_read_in_turn(herd):
    with watching(herd.parent, "--every", "1d") as watch:
        assert watch.wait_for("verified")["content_read"]


def test_sealed_images_that_come_are_watched(herd):
    below = herd.parent / "new" / "deeper"
    with watching(herd.parent) as watch:
        below.mkdir(parents=True)
        base = make_base(below / "late.qcow2", noise(65536))
        cowherd.seal(base)
        assert watch.wait_for("sealed")["base"] == str(base)
        write(base, "write -P 1 0 64k")
        assert watch.wait_for("drifted")["base"] == str(base)


def test_the_hook_gets_the_facts(herd, tmp_path):
    script, out = tmp_path / "hook me", tmp_path / "out"
    script.write_text(f'#!/bin/sh\ncat > {out}.$COWHERD_EVENT\nenv >> {out}.env\n[ "$COWHERD_EVENT" != drifted ]\n')
    script.chmod(0o755)
    with watching(herd.parent, "--exec", f"'{script}' word") as watch:
        write(herd, "write -P 1 0 64k")
        drifted = watch.wait_for("drifted")
        failure = watch.wait_for("trouble")
    assert json.loads((tmp_path / "out.drifted").read_text()) == drifted
    environment = (tmp_path / "out.env").read_text()
    assert f"COWHERD_BASE={herd}\n" in environment
    assert "COWHERD_EVENT=drifted\n" in environment
    assert "COWHERD_BLOCKS=1\n" in environment
    assert "it ended with 1" in failure["message"]


def test_metrics_are_served_on_the_loopback_interface(herd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with watching(herd.parent, "--metrics", port, "--every", "1d") as watch:
        watch.wait_for("verified")
        write(herd, "write -P 1 0 64k")
        watch.wait_for("drifted")
        deadline = time.monotonic() + 30
        while "cowherd_base_drift_blocks{" not in (text := scraped(port)) or " 1.0" not in value(
            text, "cowherd_base_drift_blocks"
        ):
            assert time.monotonic() < deadline, text
    assert value(text, "cowherd_base_fine").endswith(" 0.0")
    assert value(text, "cowherd_base_dependents").endswith(" 1.0")
    assert float(value(text, "cowherd_base_verified_timestamp_seconds").split()[-1]) > 1e9
    assert 'cowherd_events_total{event="drifted"} 1.0' in text


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def value(text: str, name: str) -> str:
    return re.search(rf"^{name}(?:\{{.*)? .*$", text, re.MULTILINE)[0]


def test_hangup_opens_the_events_file_again(herd, tmp_path):
    events, rotated = tmp_path / "events", tmp_path / "events.1"
    with watching(herd.parent, "--events", events) as watch:
        wait_until(lambda: "started" in events.read_text())
        events.rename(rotated)
        watch.process.send_signal(signal.SIGHUP)
        wait_until(events.exists)
    assert "started" in rotated.read_text()
    assert json.loads(events.read_text())["event"] == "stopped"


def test_systemd_is_told_of_the_beginning_and_the_end(herd, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        with watching(herd.parent, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000") as watch:
            told = systemd.recv(4096).decode()
            assert told == "READY=1\nSTATUS=1 sealed image, none of them not as sealed"
            while "WATCHDOG=1" not in systemd.recv(4096).decode():
                pass
            watch.end()
            while (told := systemd.recv(4096).decode()) != "STOPPING=1":
                assert told.startswith("WATCHDOG=1")


def test_the_journal_gets_levels_and_a_terminal_gets_times(herd, tmp_path):
    with watching(herd.parent) as watch:
        write(herd, "write -P 1 0 64k")
        watch.wait_for("drifted")
        watch.end()
    assert re.search(r"^\d{4}-\d\d-\d\dT\S+ error: drifted: ", watch.log, re.MULTILINE)
    assert os.path.basename(herd) in watch.log
