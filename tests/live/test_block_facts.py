"""What a machine answers about its disks, and what somebody else may answer in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.live.block_facts import COMMANDS, Device, Export, Facts, Job, Malformed, Node, read_facts

NODES, DEVICES, EXPORTS, JOBS = COMMANDS
IMAGE = {"filename": "/a", "backing-image": {"filename": "/b", "backing-image": {"filename": "/c"}}}

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FIELDS = (
    *(
        "node-name",
        "drv",
        "file",
        "image",
        "filename",
        "backing-image",
        "dirty-bitmaps",
        "name",
        "inconsistent",
        "device",
        "qdev",
    ),
    *("inserted", "io-status", "id", "type", "shutting-down", "status", "error", "current-progress", "total-progress"),
)
NEARLY = st.recursive(ANYTHING, lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner) | st.lists(inner, max_size=3))


def test_the_facts_are_those_that_qmp_documents():
    answers = {
        NODES: [
            {
                "node-name": "disk",
                "drv": "qcow2",
                "file": "/a",
                "image": IMAGE,
                "dirty-bitmaps": [{"name": "good"}, {"name": "bad", "inconsistent": True}],
            }
        ],
        DEVICES: [
            {"device": "drive", "qdev": "/machine/x", "inserted": {"image": IMAGE}, "io-status": "nospace"},
            {"device": "", "qdev": "/machine/y", "inserted": {"image": IMAGE}, "io-status": "ok"},
            {"device": "cdrom"},
        ],
        EXPORTS: [{"id": "e", "type": "fuse", "node-name": "disk", "shutting-down": True}],
        JOBS: [{"id": "j", "type": "mirror", "status": "running", "current-progress": 1, "total-progress": 2}],
    }
    assert read_facts(answers) == Facts(
        (Node("disk", "qcow2", "/a", ("/a", "/b", "/c"), ("bad",)),),
        (Device("drive", "/a", "nospace"), Device("/machine/y", "/a")),
        (Export("e", "fuse", "disk", ending=True),),
        (Job("j", "mirror", "running", 1, 2),),
    )


def test_a_command_that_a_machine_does_not_know_has_no_facts():
    assert read_facts({}) == Facts()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (NODES, {}),
        (NODES, None),
        (NODES, [[]]),
        (NODES, [{"node-name": 7}]),
        (NODES, [{"node-name": ["a"]}]),
        (NODES, [{"file": "a\0b"}]),
        (NODES, [{"file": "\ud800"}]),
        (NODES, [{"image": []}]),
        (NODES, [{"image": {"filename": {}}}]),
        (NODES, [{"image": {"filename": "a", "backing-image": [1]}}]),
        (NODES, [{"dirty-bitmaps": {}}]),
        (NODES, [{"dirty-bitmaps": [{"name": "b", "inconsistent": 1}]}]),
        (DEVICES, [{"inserted": 1}]),
        (DEVICES, [{"device": 1, "inserted": {}}]),
        (EXPORTS, [{"shutting-down": "yes"}]),
        (JOBS, [{"current-progress": float("inf")}]),
        (JOBS, [{"current-progress": 1.5}]),
        (JOBS, [{"current-progress": True}]),
        (JOBS, [{"current-progress": -1}]),
        (JOBS, [{"total-progress": 1 << 70}]),
        (JOBS, [{"total-progress": "1"}]),
        (JOBS, [{"error": {}}]),
    ],
)
def test_an_answer_of_another_form_is_refused(command, answer):
    with pytest.raises(Malformed):
        read_facts({command: answer})


@given(st.dictionaries(st.sampled_from(COMMANDS), NEARLY | st.lists(st.dictionaries(st.sampled_from(FIELDS), NEARLY))))
def test_whatever_is_answered_is_read_or_refused(answers):
    try:
        facts = read_facts(answers)
    except Malformed:
        return
    for job in facts.jobs:
        assert 0 <= job.done < 1 << 63
    for name in (name for node in facts.nodes for name in (node.name, node.file, *node.images)):
        assert isinstance(name, str)
        assert "\0" not in name
        name.encode()
