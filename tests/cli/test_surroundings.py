"""Every command, whatever its words go to and whatever signal comes: it does its work, and never ends in a traceback."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import cowherd
from tests import locales
from tests.cli.invocations import CHINESE, COMMANDS, INVOCATIONS, NAMES, Invocation, fill

SOURCES = Path(cowherd.__file__).parents[1]
PROGRAM = """\
#!{python}
import os, sys
from cowherd.cli import entry
def main():
    from cowherd.cli.{package}.main import main
    if "READY" in os.environ:
        os.write(int(os.environ["READY"]), b"x")
    return main()
entry.{package}(main)
"""
FORBIDDEN = (b"Traceback", b"Exception ignored", b"Error in sys", b"Fatal Python", b"Error: ")
TOOLS_OF_OLD_LOCALES = ("localedef", "/usr/share/i18n/locales/en_US", "/usr/share/i18n/charmaps/ISO-8859-1.gz")


@dataclass(frozen=True)
class Ended:
    """How a command ended, what it printed where that could be read, and the names of the files that it left."""

    code: int
    out: bytes
    err: bytes
    files: frozenset[str]


@dataclass(frozen=True)
class Surroundings:
    """What a command is started with. `shell`: how a shell starts "$@"; `unset` and `more`: of the environment.

    One of `signals` comes at some moment after it has begun. `names` are those of the herd's files.
    """

    shell: str = 'exec "$@"'
    more: dict[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    signals: tuple[signal.Signals, ...] = ()
    names: dict[str, str] = field(default_factory=lambda: NAMES)


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A directory with both programs as they are installed, but that they write a byte to $READY when signals are listened to."""
    folder = tmp_path_factory.mktemp("programs")
    for name, package in (("cowherd", "guard"), ("cowherd-img", "img")):
        (folder / name).write_text(PROGRAM.format(python=sys.executable, package=package))
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory) -> dict[str, str]:
    """The environment of somebody whose locale is ISO 8859-1; where none can be made, that of somebody who knows ASCII only."""
    if shutil.which("localedef") and all(map(os.path.exists, TOOLS_OF_OLD_LOCALES[1:])):
        folder = tmp_path_factory.mktemp("locales")
        command = ["localedef", "-c", "-i", "en_US", "-f", "ISO-8859-1", folder / "en_US.ISO-8859-1"]
        subprocess.run(command, check=False, capture_output=True)
        return {"LOCPATH": os.fspath(folder), "LC_ALL": "en_US.ISO-8859-1"}
    return {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def start(programs: Path, root: Path, invocation: Invocation, around: Surroundings) -> Ended:
    """Runs one command on a herd of its own."""
    root.mkdir()
    (root / "qemu-system-x86_64").symlink_to("/bin/true")
    words = invocation.prepare(root, around.names)
    environment = {name: value for name, value in os.environ.items() if name not in around.unset}
    environment |= {"PYTHONPATH": os.fspath(SOURCES), "ROOT": os.fspath(root)} | around.more
    command = ["sh", "-c", around.shell, "sh", programs / invocation.program, *words]
    given = os.fsencode(fill(invocation.given, root, around.names))
    with _signalled(around.signals, environment) as (more, send):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **more
        )
        send(process.pid)
        out, err = process.communicate(given, timeout=120)
    return Ended(process.returncode, out, err, frozenset(_names(root)))


@contextlib.contextmanager
def _signalled(numbers: tuple[signal.Signals, ...], environment: dict[str, str]) -> Iterator[tuple[dict, object]]:
    if not numbers:
        yield {}, lambda pid: None
        return
    reading, writing = os.pipe()

    def send(pid: int) -> None:
        os.close(writing)
        os.read(reading, 1)
        time.sleep(random.random() ** 2 * 0.1)
        os.kill(pid, random.choice(numbers))

    environment["READY"] = str(writing)
    try:
        yield {"pass_fds": (writing,)}, send
    finally:
        os.close(reading)


def _names(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        yield re.sub(r"[0-9a-f]{6,}", "#", os.fspath(path.relative_to(root)))


def start_all(programs: Path, folder: Path, around: Surroundings) -> dict[str, Ended]:
    """Runs every command, two at once."""
    folder.mkdir(exist_ok=True)

    def one(invocation: Invocation) -> tuple[str, Ended]:
        return invocation.name, start(programs, folder / invocation.name.replace(" ", "-"), invocation, around)

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(one, INVOCATIONS))


@pytest.fixture(scope="module")
def usual(programs, tmp_path_factory) -> dict[str, Ended]:
    """How every command ends on a good day."""
    return start_all(programs, tmp_path_factory.mktemp("usual"), Surroundings())


def test_every_command_there_is_is_tried():
    assert {invocation.name for invocation in INVOCATIONS} == COMMANDS


def test_every_command_does_something_on_a_good_day(usual):
    assert {name: ended for name, ended in usual.items() if ended.code not in (0, 4)} == {}
    assert [name for name, ended in usual.items() if any(word in ended.err for word in FORBIDDEN)] == []


def assert_as_usual(usual: dict[str, Ended], ended: dict[str, Ended], *, but: tuple[str, ...] = ()) -> None:
    """No traceback; the exit code and the files left are what they always are."""
    assert {name: one.err for name, one in ended.items() if any(word in one.err for word in FORBIDDEN)} == {}
    others = {name: (one.code, one.err) for name, one in ended.items() if one.code != usual[name].code and name not in but}
    assert others == {}
    assert {name: one.files ^ usual[name].files for name, one in ended.items() if one.files != usual[name].files} == {}


def test_escapes_stand_for_what_ascii_lacks_and_no_directory_or_home_is_needed(usual, programs, tmp_path):
    around = Surroundings(
        'mkdir "$ROOT.gone" && cd "$ROOT.gone" && rmdir "$ROOT.gone" && exec "$@"',
        {"PYTHONIOENCODING": "ascii:strict", "COLUMNS": "1", "TERM": "dumb"},
        ("HOME", "XDG_CACHE_HOME", "LANG"),
    )
    ended = start_all(programs, tmp_path / "herds", around)
    assert_as_usual(usual, ended)
    assert [name for name, one in ended.items() if name.startswith("cowherd ") and not (one.out + one.err).isascii()] == []
    assert b"|- " in ended["cowherd tree"].out


def test_a_locale_of_old_and_a_full_standard_error_change_nothing(usual, programs, tmp_path, latin_1):
    """The files that are found, and what cowherd-img prints of them, are the same."""
    ended = start_all(programs, tmp_path / "herds", Surroundings('exec "$@" 2>/dev/full', latin_1))
    assert_as_usual(usual, ended)
    img = [name for name in ended if name.startswith("cowherd-img ")]
    assert [name for name in img if _without_folder(ended[name].out) != _without_folder(usual[name].out)] == []


def _without_folder(text: bytes) -> bytes:
    return re.sub(rb"/[^ ]*/cowherd-img-", b"", text)


@pytest.fixture(scope="module")
def chinese_locales(tmp_path_factory) -> str:
    """A folder that has Chinese locales."""
    return locales.make_chinese(tmp_path_factory.mktemp("chinese"))


@pytest.fixture(scope="module")
def chinese(programs, tmp_path_factory) -> dict[str, Ended]:
    """How every command ends on files with Chinese names."""
    return start_all(programs, tmp_path_factory.mktemp("names"), Surroundings(names=CHINESE))


def test_files_have_chinese_names(usual, chinese):
    """Each command does what it does with any names, and shows these as they are."""
    assert {name: one.code for name, one in chinese.items()} == {name: one.code for name, one in usual.items()}
    shown = "".join(one.out.decode() for name, one in chinese.items() if name.startswith("cowherd "))
    assert [file for name, file in CHINESE.items() if name != "copy" and file not in shown] == []


@pytest.mark.slow
@pytest.mark.parametrize("locale", locales.ENCODINGS)
def test_a_chinese_locale_changes_nothing(chinese, chinese_locales, programs, tmp_path, locale):
    """Files have the names that they have, and the terminal gets them in its own encoding."""
    environment = {"LOCPATH": chinese_locales, "LC_ALL": locale, "LANG": locale}
    ended = start_all(programs, tmp_path / "herds", Surroundings(more=environment, names=CHINESE))
    assert_as_usual(chinese, ended)
    assert CHINESE["one"] in ended["cowherd tree"].out.decode(locales.ENCODINGS[locale])


@pytest.mark.slow
def test_names_stored_as_gbk_are_found_and_shown_by_their_bytes(chinese, chinese_locales, programs, tmp_path):
    names = {name: os.fsdecode(file.encode("gbk")) for name, file in CHINESE.items()}
    environment = {"LOCPATH": chinese_locales, "LC_ALL": "zh_CN.GBK"}
    ended = start_all(programs, tmp_path / "herds", Surroundings(more=environment, names=names))
    no_xml = ("cowherd hook",)  # bytes that are not UTF-8 have no place in the XML of a machine
    assert {name: one.err for name, one in ended.items() if any(word in one.err for word in FORBIDDEN)} == {}
    assert {name: one for name, one in ended.items() if one.code != chinese[name].code and name not in no_xml} == {}
    assert CHINESE["two"] in ended["cowherd-img info"].out.decode("gbk")


def test_with_all_streams_closed_everything_is_done_but_what_needs_input(usual, programs, tmp_path):
    ended = start_all(programs, tmp_path / "herds", Surroundings('exec "$@" <&- >&- 2>&-'))
    assert_as_usual(usual, ended, but=("cowherd hook",))
    assert ended["cowherd hook"].code == 1


def test_whoever_stops_reading_is_no_failure(usual, programs, tmp_path):
    shell = """{ "$@"; echo $? >"$ROOT.code"; } | true"""
    ended = start_all(programs, tmp_path / "herds", Surroundings(shell))
    codes = {name: int((tmp_path / "herds" / f"{name.replace(' ', '-')}.code").read_text()) for name in ended}
    assert codes == {name: one.code for name, one in usual.items()}
    assert {name: one.err for name, one in ended.items() if one.err and one.err != usual[name].err} == {}


def test_a_full_disk_under_the_output_is_said_with_what_became_of_the_work(usual, programs, tmp_path):
    ended = start_all(programs, tmp_path / "herds", Surroundings('exec "$@" >/dev/full'))
    talkative = [name for name, one in usual.items() if one.out]
    assert_as_usual(usual, ended, but=tuple(talkative))
    assert len(talkative) > 30
    for name in talkative:
        expected = usual[name].code or (2 if name.endswith("compare") else 1)
        assert (name, ended[name].code) == (name, expected)
        assert b"could not write to standard output: No space left on device; the command itself " in ended[name].err


@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGHUP)], ids=["SIGINT", "SIGTERM or SIGHUP"])
def test_a_signal_ends_every_command_in_silence_and_leaves_no_temporary_files(usual, programs, tmp_path, numbers):
    ended = start_all(programs, tmp_path / "herds", Surroundings(signals=numbers))
    assert {name: one.err for name, one in ended.items() if any(word in one.err for word in FORBIDDEN)} == {}
    stopped = {128 + number for number in numbers}
    assert {name: one for name, one in ended.items() if one.code not in {*stopped, usual[name].code}} == {}
    assert any(one.code in stopped for one in ended.values())
    assert [file for one in ended.values() for file in one.files if os.path.basename(file).startswith(".cowherd-#")] == []
