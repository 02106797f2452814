"""What may be on the disk after a power cut (or a kill) in the middle of what a `Recorder` recorded.

The rules, more pessimistic than ext4, XFS and btrfs are:

* Nothing that was flushed is lost: fdatasync(2) and fsync(2) of a file make its bytes and length durable, fsync also its
  permission bits and times; fsync of a directory makes the names in it durable.
* Between a change and its flush anything may be there: each change of bytes, length, permission bits or names by itself, in any
  order. A file that was flushed has no durable name until its directory was flushed; a name may be there before the bytes.
* A write may be torn between two sectors of 512 bytes, or the file may be as long as it makes it without the bytes.
* A rename is there or not, never half; so are link, unlink, mkdir and rmdir. One that spans two directories is durable when
  either was flushed.
* A file's times may be those of any moment since the last fsync.
* A killed process loses nothing that it did before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tests.reliability.recorder import Data, Event, Hole, Mode, Names, Size, Sync
from tests.reliability.world import Node, World

SECTOR = 512


@dataclass(frozen=True)
class Crash:
    """What is there after `events` of the job's events were begun, and in which way it came about."""

    events: int
    way: str
    world: World


def replayed(before: World, nodes: dict[int, Node], events: Sequence[Event]) -> World:
    """The tree after exactly `events`."""
    world = World(dict(nodes), dict(before.names))
    owned: set[int] = set()
    for event in events:
        _apply(world, owned, event)
    return world


def crashes(
    before: World, nodes: dict[int, Node], log: Sequence[Event], generator: random.Random, number: int
) -> Iterator[Crash]:
    """Yields about `number` different crashes: half of them kills, spread over the job (each moment once if there are no more
    than that), half power cuts at random moments."""
    moments = kill_moments(log)
    kills = max(1, number // 2)
    for moment in spread(moments, kills, generator):
        yield Crash(moment, "killed", replayed(before, nodes, log[:moment]))
    yield from cuts(before, nodes, log, generator, number - kills)


def kill_moments(log: Sequence[Event]) -> list[int]:
    """The numbers of events after which a kill leaves another tree than before them."""
    return [0, *(index + 1 for index, event in enumerate(log) if not isinstance(event, Sync))]


def spread(moments: Sequence[int], number: int, generator: random.Random) -> list[int]:
    """Draws `number` of `moments` by lot, one from each part of them; all of them if there are no more."""
    number = max(1, min(number, len(moments)))
    step = max(1, len(moments) / number)
    chosen = {int(generator.random() * step + place * step) for place in range(number)}
    return [moments[place] for place in sorted(chosen & set(range(len(moments))))]


def left_in_memory(log: Sequence[Event]) -> list[int]:
    """The moments right before a flush, or the end, at which a kill leaves something that is not on the disk yet."""
    ends = [index for index, event in enumerate(log) if isinstance(event, Sync)] + [len(log)]
    return [end for end in ends if sum(not isinstance(event, Sync) for event in log[:end]) > len(durable_at(log, end))]


def telling_cuts(before: World, nodes: dict[int, Node], log: Sequence[Event], *, since: int = 0) -> Iterator[Crash]:
    """Yields the power cuts that show whether each flush is where it must be: around every flush, each different tree once.

    Right after a flush only what was flushed is there: if one before it is missing, what this one made durable stands on
    nothing. Right before one, the last change is there alone, or all but the first: what lies between them wants a flush.
    """
    seen: set[frozenset[int]] = set()
    for index in [index for index, event in enumerate(log) if isinstance(event, Sync) and index >= since]:
        for moment, way in (
            (index, "the last change alone"),
            (index, "the first change lost"),
            (index + 1, "only what was flushed"),
        ):
            durable = durable_at(log, moment)
            pending = [at for at in range(moment) if not isinstance(log[at], Sync) and at not in durable]
            left = {"the last change alone": pending[-1:], "the first change lost": pending[1:]}.get(way, [])
            kept = frozenset((*durable, *left))
            if kept not in seen:
                seen.add(kept)
                world = replayed(before, nodes, [log[at] for at in sorted(kept)])
                if moment > index:  # bytes may be there long before times are
                    _turn_back_times(world, before, log[:moment], lambda times: times[0])
                yield Crash(moment, way, world)


def cuts(
    before: World, nodes: dict[int, Node], log: Sequence[Event], generator: random.Random, number: int, *, since: int = 0
) -> Iterator[Crash]:
    """Yields up to `number` different power cuts after event `since`: between any two events, flushes too.

    A cut right after a flush that leaves nothing else is what shows that another flush is missing.
    """
    moments = range(since + 1, len(log) + 1)
    seen: set[tuple[object, ...]] = set()
    for _ in range(2 * number):
        if len(seen) >= number or not moments:
            return
        moment = generator.choice(moments)
        way, events = _cut(log, moment, generator)
        key = (way if way == "times" else "", *map(id, events))
        if key not in seen:
            seen.add(key)
            world = replayed(before, nodes, events)
            _turn_back_times(world, before, log[:moment], generator.choice)
            yield Crash(moment, way, world)


def _cut(log: Sequence[Event], moment: int, generator: random.Random) -> tuple[str, list[Event]]:
    """The changes that a power cut at a moment leaves, and how they were chosen."""
    durable = durable_at(log, moment)
    pending = [index for index in range(moment) if not isinstance(log[index], Sync) and index not in durable]
    way = generator.choice(list(_WAYS))
    kept = _WAYS[way](log, pending, generator)
    return way, [kept.get(index, log[index]) for index in range(moment) if index in durable or index in kept]


def durable(before: World, nodes: dict[int, Node], log: Sequence[Event]) -> World:
    """The least that is there after all events."""
    return replayed(before, nodes, [log[index] for index in sorted(durable_at(log, len(log)))])


def durable_at(log: Sequence[Event], moment: int) -> set[int]:
    """The numbers of the changes before `moment` that a power cut there can't undo."""
    found: set[int] = set()
    flushed: set[int] = set()
    whole: set[int] = set()
    for index in range(moment - 1, -1, -1):
        event = log[index]
        if isinstance(event, Sync):
            flushed.add(event.node)
            whole |= {event.node} if event.whole else set()
        elif isinstance(event, Names):
            found |= {index} if event.directories & flushed else set()
        elif event.node in (whole if isinstance(event, Mode) else flushed):
            found.add(index)
    return found


Choice = Callable[[Sequence[Event], list[int], random.Random], dict[int, Event]]


def _none(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    return {}


def _all(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    return {index: log[index] for index in pending}


def _any(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    kept = [index for index in pending if generator.random() < 0.5]
    return {index: _torn(log[index], generator) if generator.random() < 0.3 else log[index] for index in kept}


def _but_one(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    lost = generator.choice(pending) if pending else None
    return {index: log[index] for index in pending if index != lost}


def _only_one(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    kept = generator.choice(pending) if pending else None
    return {index: _torn(log[index], generator) for index in pending if index == kept}


def _names(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    return {index: log[index] for index in pending if isinstance(log[index], Names)}


def _bytes(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    return {index: log[index] for index in pending if not isinstance(log[index], Names)}


def _torn_last(log: Sequence[Event], pending: list[int], generator: random.Random) -> dict[int, Event]:
    return {index: _torn(log[index], generator) if index == pending[-1] else log[index] for index in pending}


_WAYS: dict[str, Choice] = {
    "nothing that was not flushed": _none,
    "everything": _all,
    "any part": _any,
    "one change lost": _but_one,
    "one change kept": _only_one,
    "names without bytes": _names,
    "bytes without names": _bytes,
    "the last write torn": _torn_last,
}


def _torn(event: Event, generator: random.Random) -> Event:
    if not isinstance(event, Data):
        return event
    if generator.random() < 0.2:
        return Size(event.node, event.times, -(event.offset + len(event.data)))  # at least so long
    borders = range(-event.offset % SECTOR or SECTOR, len(event.data), SECTOR)
    if not borders:
        return event
    border = generator.choice(borders)
    if generator.random() < 0.5:
        return replace(event, data=event.data[:border])
    return replace(event, offset=event.offset + border, data=event.data[border:])


def _apply(world: World, owned: set[int], event: Event) -> None:
    if isinstance(event, Names):
        for directory, name, node, there in event.changes:
            if there:
                world.names[directory, name] = node
            elif world.names.get((directory, name)) == node:
                del world.names[directory, name]
    elif not isinstance(event, Sync):
        node = world.nodes[event.node]
        if event.node not in owned:
            owned.add(event.node)
            node = world.nodes[event.node] = replace(node, data=bytearray(node.data or b""))
        node.times = event.times
        _change(node, event)


def _change(node: Node, event: Event) -> None:
    data = node.data
    assert data is not None
    if isinstance(event, Data):
        _lengthen(data, event.offset + len(event.data))
        data[event.offset : event.offset + len(event.data)] = event.data
    elif isinstance(event, Size):
        if event.size >= 0:
            del data[event.size :]
        _lengthen(data, abs(event.size))
    elif isinstance(event, Hole):
        end = min(len(data), event.offset + event.length)
        data[event.offset : end] = bytes(max(0, end - event.offset))
    elif isinstance(event, Mode):
        node.mode = event.mode


def _lengthen(data: bytearray, size: int) -> None:
    data.extend(bytes(max(0, size - len(data))))


Times = tuple[int, int]


def _turn_back_times(world: World, before: World, events: Sequence[Event], choose: Callable[[Sequence[Times]], Times]) -> None:
    """Gives files times of any moment since they were last flushed whole."""
    possible: dict[int, list[Times]] = {number: [node.times] for number, node in before.nodes.items()}
    for event in events:
        if isinstance(event, Sync):
            if event.whole and event.node in possible:
                del possible[event.node][:-1]
        elif not isinstance(event, Names):
            possible.setdefault(event.node, []).append(event.times)
    for number, times in possible.items():
        if world.nodes[number].data is not None:
            world.nodes[number] = replace(world.nodes[number], times=choose(times))
