"""The inspection of a stored qcow2 image: whole, in a process with limits, which also reads its content."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.records.digest_rows import read_content
from cowherd.image.reading import open_reading
from cowherd.service.intake import stored
from cowherd.service.intake.faults import Refused
from cowherd.service.intake.processes import limited
from cowherd.service.intake.stored import inspect_stored
from tests.hostile.corpus import seed
from tests.images import Features, create_with_cowherd

MIB = 1 << 20


def test_a_sound_image_is_let_through_with_its_size_and_content(tmp_path: Path):
    path = seed().write(tmp_path / "image")
    found = inspect_stored(path, "qcow2", MIB << 10)
    with open_reading(path, format="qcow2") as reading:
        content = read_content(reading)
    assert found.virtual_size == 2 * MIB
    assert found.content is not None
    assert (found.content.runs, found.content.digests) == (content.runs, content.digests)
    assert found.content.content_digest == content.content_digest


def test_an_empty_image_has_a_content_too(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    found = inspect_stored(path, "qcow2", MIB)
    assert found.content is not None
    assert (found.virtual_size, list(found.content.runs), bytes(found.content.digests)) == (MIB, [], b"")


def test_damage_that_only_the_whole_file_shows_is_refused(tmp_path: Path):
    image = seed()
    image.word(image["L2"], 0x7FFF0000)
    with pytest.raises(Refused) as caught:
        inspect_stored(image.write(tmp_path / "image"), "qcow2", MIB << 10)
    assert caught.value.check == "mapping"
    assert caught.value.detail


@pytest.mark.parametrize(("memory", "problem"), [(64 * MIB, "the check 'limits': ."), (4 << 30, "too long")])
def test_an_inspection_that_takes_too_much_is_a_refusal(tmp_path: Path, memory: int, problem: str):
    path = seed().write(tmp_path / "image")
    with pytest.raises(Refused, match=problem) as caught:
        inspect_stored(path, "qcow2", MIB << 10, memory=memory, seconds=0 if memory > MIB << 10 else 100)
    assert caught.value.check == "limits"


def test_a_file_that_the_host_can_not_read_is_no_refusal(tmp_path: Path):
    with pytest.raises(HostFileError) as caught:
        inspect_stored(tmp_path / "nothing", "qcow2", MIB)
    assert caught.value.errno == errno.ENOENT


def test_a_disk_without_room_for_the_answer_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = seed().write(tmp_path / "image")
    with Path("/dev/full").open("r+b", buffering=0) as full, (tmp_path / "said").open("w+b") as said:
        files = iter((full, said))
        monkeypatch.setattr(stored.tempfile, "TemporaryFile", lambda: next(files))
        with pytest.raises(HostFileError, match="No space left"):
            inspect_stored(path, "qcow2", MIB << 10)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\n",
        b"[]\n",
        b'{"virtual_size": "x"}\n',
        b'{"virtual_size": 65536, "runs": 2, "digests": 32}\n' + b"\0" * 48,
        b'{"virtual_size": 65536, "runs": 2, "digests": 32}\n'
        + (0).to_bytes(8, "little")
        + (2).to_bytes(8, "little")
        + bytes(64),
        b'{"virtual_size": 65536, "runs": 1, "digests": 0}\n' + bytes(8),
        b'{"virtual_size": 65536, "runs": 2, "digests": 64}\n'
        + (1).to_bytes(8, "little")
        + (3).to_bytes(8, "little")
        + bytes(64),
    ],
)
def test_an_answer_that_makes_no_sense_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes):
    liar = tmp_path / "liar"
    liar.write_bytes(b"#!/bin/sh\ncat " + os.fsencode(tmp_path / "answer") + b"\n")
    liar.chmod(0o755)
    (tmp_path / "answer").write_bytes(answer)
    monkeypatch.setattr(limited.sys, "executable", str(liar))
    with pytest.raises(Refused, match="no sensible answer"):
        inspect_stored(tmp_path / "image", "qcow2", MIB)
