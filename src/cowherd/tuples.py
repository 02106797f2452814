"""Named tuples as `typing.NamedTuple` makes them, without `typing`: to load that takes as long as Python itself takes to start.

Type checkers see the class of `typing`. Annotations are not evaluated, neither here nor there.
"""

from __future__ import annotations

__all__ = ["NamedTuple"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from collections import namedtuple

    class _Maker(type):
        """Turns each class that derives from `NamedTuple` into a named tuple, whose fields are the annotated names."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body["__annotations__"]
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in ("__module__", "__qualname__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """Base class: what derives from it becomes a named tuple with the annotated fields, defaults and methods of its body."""
