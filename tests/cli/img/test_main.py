"""How cowherd-img is called, and how it ends."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd.cli.img.main import COMMANDS
from tests.cli.img.both import cowherd_img, reference, same

SOURCES = Path(__file__).parents[3] / "src"
RUN = [sys.executable, "-m", "cowherd.cli.img.main"]


def start(*arguments, **options):
    """Starts cowherd-img as a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    return subprocess.Popen([*RUN, *map(str, arguments)], env=environment, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.mark.qemu
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["foo"],
        ["--foo"],
        ["info", "-x"],
        ["info", "--foo"],
        ["info", "-f"],
        ["info", "--output"],
        ["info", "--output=xx", "a"],
        ["info", "a", "b"],
        ["info", "--back"],
        ["create", "--back", "x"],
        ["create", "--quiet=3", "x"],
        ["create", "-qx"],
        ["info", "--", "-f"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_complained_about_as_by_qemu_img(empty, arguments):
    assert same(*arguments).code == 1


@pytest.mark.qemu
@pytest.mark.parametrize(
    "arguments",
    [
        ["-Ufraw", "disk.raw"],
        ["disk.raw", "-f", "raw"],
        ["--outp", "json", "disk.raw"],
        ["--form=raw", "--", "disk.raw"],
        ["-U", "-f", "raw", "disk.raw"],
    ],
    ids=" ".join,
)
def test_options_are_bundled_permuted_and_abbreviated_as_by_getopt(raw, monkeypatch, arguments):
    monkeypatch.chdir(raw.parent)
    assert same("info", *arguments).code == 0


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_options_and_examples(command):
    outcome = cowherd_img(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(COMMANDS[command])
    assert f"  cowherd-img {command} " in outcome.out.split("Examples:")[1]
    assert "--help" in outcome.out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_wins_over_what_comes_after_it(command):
    assert cowherd_img(command, "-h", "--no-such-option").code == 0


@pytest.mark.qemu
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_qemu_img_is_known(command):
    import re

    found = re.findall(r"^ +(?:-(\w), ?)?--([a-z-]+)", reference(command, "--help").out, re.MULTILINE)
    if not found:
        pytest.skip("this qemu-img has no help texts of its commands")
    ours = cowherd_img(command, "--help").out
    for short, long in found:
        assert f"--{long}" in ours
        assert not short or f"-{short}, --{long}" in ours


def test_the_overview_names_every_command():
    for option in ("--help", "-h"):
        outcome = cowherd_img(option)
        assert outcome.code == 0
        assert [name for name in COMMANDS if f"  {name} - " not in outcome.out] == []


def test_the_version_is_cowherds_own():
    assert cowherd_img("--version").out.startswith("cowherd-img ")


def test_scripts_that_ask_qemu_img_for_its_version_find_it():
    assert cowherd_img("-V", program="qemu-img").out.startswith("qemu-img version 10.")


def test_messages_begin_with_the_name_that_was_called():
    assert cowherd_img("info", "nothere", program="/opt/bin/qemu-img").err.startswith("qemu-img: Could not open")
    assert cowherd_img("info", "nothere").err.startswith("cowherd-img: Could not open")


@pytest.mark.parametrize("command", ["amend", "bench", "bitmap"])
def test_commands_that_are_not_there_are_refused_by_name(command):
    outcome = cowherd_img(command, "x")
    assert outcome.code == 1
    assert f"'{command}' is a command of qemu-img that cowherd-img does not have" in outcome.err


def test_trace_options_are_passed_over(raw):
    outcome = cowherd_img("-T", "x", "info", raw)
    assert outcome.code == 0
    assert "--trace is ignored" in outcome.err


def test_a_reader_that_goes_away_is_not_complained_about(raw):
    with start("info", raw, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_full_disk_under_the_output_is_an_error(raw):
    with open("/dev/full", "w") as full, start("info", raw, stdout=full) as process:
        said = process.stderr.read()
    assert process.returncode == 1
    assert said == (
        "cowherd-img: could not write to standard output: No space left on device; the command itself was carried out\n"
    )


def test_a_comparison_that_could_not_be_told_does_not_end_as_if_the_images_differed(raw):
    with open("/dev/full", "w") as full, start("compare", raw, raw, stdout=full) as process:
        assert "No space left" in process.stderr.read()
    assert process.returncode == 2


@pytest.mark.parametrize("name", ["/some/file", 7])
def test_an_error_of_the_host_that_nobody_expected_is_told_with_the_name_of_its_file(raw, monkeypatch, name):
    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    monkeypatch.setattr("cowherd.cli.img.info.run", failing)
    outcome = cowherd_img("info", raw)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.endswith("Input/output error\n")
    assert str(name) in outcome.err


def test_output_that_is_closed_is_no_traceback(raw):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *RUN, "info", raw],
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def written_to(tmp_path, monkeypatch):
    """Stands beside a qcow2 and a raw image that QEMU has open for writing; gives the process ids by image."""
    monkeypatch.chdir(tmp_path)
    reference("create", "-q", "-f", "qcow2", "disk.qcow2", "1M")
    reference("create", "-q", "-f", "raw", "disk.raw", "1M")
    reference("create", "-q", "-f", "raw", "free.raw", "1M")
    holders = {}
    for name in ("disk.qcow2", "disk.raw"):
        command = ["qemu-io", "-f", name.split(".")[1], name]
        holders[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holders[name].stdin.write("length\n")
        holders[name].stdin.flush()
        assert "1 MiB" in holders[name].stdout.readline()
    yield {name: holder.pid for name, holder in holders.items()}
    for holder in holders.values():
        holder.communicate()


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "disk.qcow2"],
        ["info", "disk.raw"],
        ["map", "disk.qcow2"],
        ["map", "disk.raw"],
        ["check", "disk.qcow2"],
        ["measure", "disk.qcow2"],
        ["snapshot", "-l", "disk.qcow2"],
        ["compare", "disk.qcow2", "disk.qcow2"],
        ["resize", "disk.qcow2", "2M"],
        ["convert", "disk.qcow2", "new"],
        ["convert", "disk.raw", "new"],
        ["convert", "-U", "disk.raw", "new"],
        ["convert", "-n", "-O", "qcow2", "free.raw", "disk.qcow2"],
        ["dd", "if=disk.qcow2", "of=new"],
        ["create", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", "new"],
    ],
    ids=" ".join,
)
def test_an_image_that_qemu_writes_to_is_treated_as_by_qemu_img(written_to, arguments):
    outcome = same(*arguments)
    if "lock" in outcome.err:
        assert any(f"qemu-io (pid {pid}" in outcome.err for pid in written_to.values())


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize("command", ["info", "map", "check", "measure"])
def test_force_share_reads_it_all_the_same(written_to, command):
    assert same(command, "-U", "disk.qcow2").code == 0
