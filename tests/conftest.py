"""What all tests share.

A test that compares with QEMU takes the fixture `qemu_img` or `qemu_io`, or is marked `@pytest.mark.qemu`, with the names of
the programs that it needs beside qemu-img, as in `@pytest.mark.qemu("qemu-storage-daemon")`. Without QEMU such a test is
skipped; where the environment says CI it fails.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests import qemu
from tests.service.databases.fixtures import mariadb, postgresql

__all__ = ["mariadb", "postgresql"]

# mke2fs, debugfs and e2fsck are not on every user's PATH, and messages are compared in one language.
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
os.environ["LC_ALL"] = "C.UTF-8"
os.environ["COWHERD_REQUIRE_PROC"] = "0"  # in a container, and as a user, each change would say that it can't see everybody
os.environ["COWHERD_CATALOG"] = "off"  # whoever runs the tests keeps what their own catalog knows
os.environ["COWHERD_CONFIG"] = os.devnull  # and no herds of theirs are looked through
os.environ.pop("COWHERD_HERD", None)
# A run in the background of a shell may have been started with these ignored, and so would be the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes depends on what else the machine does. In CI every run tries the same examples.
settings.register_profile(
    "cowherd",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("cowherd")


@pytest.fixture(scope="session", autouse=True)
def _each_test_for_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps a test from looking for relatives of its images among those of the others."""
    os.environ["COWHERD_CEILING"] = os.fspath(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps seals that find no place beside their images where whoever runs the tests keeps none of their own."""
    os.environ["COWHERD_STATE"] = str(tmp_path_factory.mktemp("state") / "cowherd")


def pytest_report_header() -> str:
    """Says at the head of a run which QEMU the tests compare with."""
    return f"qemu: {qemu.version() or 'not installed'}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Holds tests marked `qemu` back where QEMU is missing."""
    for marker in item.iter_markers("qemu"):
        qemu.require(*marker.args)


@pytest.fixture
def qemu_img() -> qemu.Tool:
    """The real qemu-img: `qemu_img("create", "-f", "qcow2", path, "1M")` returns its output."""
    qemu.require()
    return qemu.Tool("qemu-img")


@pytest.fixture
def qemu_io() -> qemu.Tool:
    """The real qemu-io: `qemu_io("-f", "qcow2", "-c", "write -P 1 0 64k", path)` returns its output."""
    qemu.require("qemu-io")
    return qemu.Tool("qemu-io")
