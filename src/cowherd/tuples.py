"""Named tuples as `typing.NamedTuple` makes them, in a third of the time, and without `typing`.

To load `typing` takes as long as Python itself takes to start. `collections.namedtuple` compiles a function for each class: for
the classes of a command that only looks, that is a twelfth of the time that the command takes. Here it is compiled beforehand.

Type checkers see the class of `typing`. Annotations are not evaluated, neither here nor there.
"""

from __future__ import annotations

__all__ = ["NamedTuple"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FunctionType
    from typing import Any, NamedTuple, Self
else:
    from _collections import _tuplegetter  # as in `namedtuple`: a property takes twice as long

    _new = tuple.__new__
    _Function = type(lambda: None)

    _CONSTRUCTORS = (
        lambda _cls: _new(_cls, ()),
        lambda _cls, a: _new(_cls, (a,)),
        lambda _cls, a, b: _new(_cls, (a, b)),
        lambda _cls, a, b, c: _new(_cls, (a, b, c)),
        lambda _cls, a, b, c, d: _new(_cls, (a, b, c, d)),
        lambda _cls, a, b, c, d, e: _new(_cls, (a, b, c, d, e)),
        lambda _cls, a, b, c, d, e, f: _new(_cls, (a, b, c, d, e, f)),
        lambda _cls, a, b, c, d, e, f, g: _new(_cls, (a, b, c, d, e, f, g)),
        lambda _cls, a, b, c, d, e, f, g, h: _new(_cls, (a, b, c, d, e, f, g, h)),
        lambda _cls, a, b, c, d, e, f, g, h, i: _new(_cls, (a, b, c, d, e, f, g, h, i)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j: _new(_cls, (a, b, c, d, e, f, g, h, i, j)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k)),
    )
    """What makes a tuple of a class and as many items as its place here says."""

    class _Tuple(tuple):
        """What every named tuple can do, as those of `typing`."""

        __slots__ = ()

        @classmethod
        def _make(cls, values: Iterable[Any]) -> Self:
            made = _new(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **values: Any) -> Self:
            made = self._make(map(values.pop, self._fields, self))
            if values:
                raise ValueError(f"Got unexpected field names: {list(values)!r}")
            return made

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self) -> str:
            values = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    class _Maker(type):
        """Turns each class that derives from `NamedTuple` into a named tuple, whose fields are the annotated names."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = tuple(body["__annotations__"])
            defaults = {field: body[field] for field in fields if field in body}
            body.setdefault("__doc__", f"{name}({', '.join(fields)})")
            body |= {"__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults}
            body["__new__"] = _constructor(name, fields, tuple(defaults.values()))
            for place, field in enumerate(fields):
                body[field] = _tuplegetter(place, f"Alias for field number {place}")
            return type(name, (_Tuple,), body)

    def _constructor(name: str, fields: tuple[str, ...], defaults: tuple[Any, ...]) -> FunctionType:
        """Returns the `__new__` of class `name`, whose last fields have `defaults`."""
        code = _code(len(fields)).replace(co_varnames=("_cls", *fields), co_name="__new__", co_qualname=f"{name}.__new__")
        return _Function(code, globals(), "__new__", defaults)

    def _code(number: int) -> CodeType:
        """Returns the code of a constructor of a class with so many fields."""
        if number < len(_CONSTRUCTORS):
            return _CONSTRUCTORS[number].__code__
        names = ", ".join(f"_{place}" for place in range(number))
        return eval(f"lambda _cls, {names}: _new(_cls, ({names}))").__code__

    class NamedTuple(metaclass=_Maker):
        """Base class: what derives from it becomes a named tuple with the annotated fields, defaults and methods of its body."""
