"""Tests that files which this process itself holds cost no look through other processes, and hide nobody."""

from __future__ import annotations

import os

import pytest

from cowherd.live import beside, sight
from cowherd.live.kernel_holders import key_of
from cowherd.storage.holding import Holding
from cowherd.storage.locks import READ, WRITE


class LookedThroughProcesses(Exception):
    """Some code looked through all processes."""


@pytest.fixture
def image(tmp_path, monkeypatch):
    """A file; whoever looks through the processes for it raises."""

    def refuse(*_, **__):
        raise LookedThroughProcesses

    monkeypatch.setattr(beside, "processes", refuse)
    monkeypatch.setattr(sight, "look_through", refuse)
    path = tmp_path / "image"
    path.write_bytes(b"content")
    return path


def test_a_survey_looks_through_processes_for_a_file_that_another_has_open_only(image):
    with Holding() as held:
        held.lock(image, READ)
        assert beside.open_beside([str(image)], held) == []
        with open(image, "rb"), pytest.raises(LookedThroughProcesses):
            beside.open_beside([str(image)], held)
    assert beside.open_beside([str(image)]) == []


def test_a_look_for_users_of_a_held_file_finds_its_other_openings_only(image):
    with Holding() as held:
        held.lock(image, WRITE)
        files = {key_of(os.stat(image)): image}
        assert sight.look(files, held=held).holders == {}
        with open(image, "rb"), pytest.raises(LookedThroughProcesses):
            sight.look(files, held=held)


def test_the_descriptors_that_are_held_do_not_count_as_openings_of_this_process(image):
    with Holding() as held:
        held.lock(image, WRITE)
        key = key_of(os.stat(image))
        assert key not in sight._own(held.descriptors())
        with open(image, "r+b"):
            assert sight._own(held.descriptors())[key]
