"""Parses QEMU's two forms of options, `key=value,...` and JSON, to one flat mapping with dotted keys.

`file.filename=x` and `{"file": {"filename": "x"}}` are the same, and so are `children.0=x` and `{"children": ["x"]}`. A value
is a text, or from JSON a number, a switch, or None for null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cowherd.live.machine.drive import MachineUnclear
from cowherd.text import has_surrogates, printable

Options = dict[str, Any]

_ON, _OFF = (True, "on", "yes", "true", "y"), (False, "off", "no", "false", "n")


def names(text: str) -> frozenset[str]:
    """Returns the words of a text; the tables of options are written as such texts."""
    return frozenset(text.split())


def pairs(text: str) -> list[tuple[str, str | None]]:
    """Splits `key=value,flag,...` as QEMU does: two commas mean one in the value. A flag's value is None."""
    found = []
    for part in text.replace(",,", "\0").split(","):
        key, equals, value = part.replace("\0", ",").partition("=")
        if key or equals:
            found.append((key, value if equals else None))
    return found


def parse(text: str, first: str | None = None) -> Options:
    """Returns an argument, JSON or `key=value,...`, as flat options; `first` is the key of a first word without one.

    A flag is on; "nosnapshot" is also read as `snapshot` off. If a key is given twice, the last value counts.
    Raises `MachineUnclear` for a text that begins like JSON and is not.
    """
    if text.startswith("{"):
        return parse_json(text)
    options: Options = {}
    for number, (key, value) in enumerate(pairs(text)):
        if value is not None:
            options[key] = value
        elif first and number == 0:
            options[first] = key
        else:
            options[key] = "on"
            if key.startswith("no"):
                options[key.removeprefix("no")] = "off"
    return options


def parse_json(text: str) -> Options:
    """Returns a JSON object as flat options. Raises `MachineUnclear` for a text that is not one."""
    try:
        found = json.loads(text)
        if has_surrogates(json.dumps(found, ensure_ascii=False)):
            raise ValueError("it holds halves of characters")
        if isinstance(found, dict):
            return dict(_flat(found, ""))
    except (ValueError, RecursionError) as error:
        raise MachineUnclear(f"not valid JSON: {error}", printable(text[:60])) from error
    raise MachineUnclear("the JSON is not an object", printable(text[:60]))


def _flat(value: object, key: str) -> Iterator[tuple[str, object]]:
    prefix = f"{key}." if key else ""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, prefix + name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}{number}")
    else:
        yield key, value


def below(options: Mapping[str, Any], key: str) -> Options:
    """Returns the options under `key`, without its name: for "file", `file.filename=x` becomes `filename=x`."""
    prefix = f"{key}."
    return {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}


def is_on(options: Mapping[str, Any], *keys: str) -> bool:
    """Returns whether one of the switches is on, in QEMU's form or in JSON's."""
    return any(options.get(key) in _ON for key in keys)


def is_switch(value: object) -> bool:
    """Returns whether a value is a switch or a number, and so names nothing."""
    return value is None or isinstance(value, bool | int | float) or value in _ON + _OFF or str(value).isdecimal()
