"""Notes: each is told once, to whoever listens."""

from __future__ import annotations

from cowherd import notes


def test_a_note_is_told_once(monkeypatch):
    heard: list[str] = []
    monkeypatch.setattr(notes, "listeners", [heard.append])
    monkeypatch.setattr(notes, "_said", set())
    for note in ("one", "two", "one"):
        notes.say(note)
    assert heard == ["one", "two"]


def test_nobody_need_listen(monkeypatch):
    monkeypatch.setattr(notes, "listeners", [])
    notes.say("nobody hears this")
