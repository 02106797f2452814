"""What clients are told of a handler: who may, what it takes, and what its answers mean. It stands as data beside each handler.

docs/image-api.md and the OpenAPI description are made of it, and the tests hold every answer against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cowherd.service.policy.rules import RULES
from cowherd.service.web.routing import takes_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Told = Mapping[str, str]
    Body = Mapping[str, str | None]
    """The media types of which a body may be, with the name (as in `schemas.named`) of the document that it then is, if any."""

JSON, BYTES = "application/json", "application/octet-stream"
OF_ALL = {
    400: "the request makes no sense: the answer says why",
    401: "nobody knows who asks",
    403: "a browser asks for a page of another site, where everybody may do all",
    431: "the id of the request is longer than 64 characters",
    503: "the database or a store does not answer now",
}
"""What every handler may answer."""
OF_BODIES = {408: "nothing of the body came for 60 seconds", 413: "the body is larger than is taken"}
"""What every handler may answer that takes a body."""
OF_NAMES = {404: "it is not there"}
"""What every handler may answer whose path names something."""
_ATTRIBUTE = "operation"
_Handler = TypeVar("_Handler", bound="Callable[..., object]")


class Operation(NamedTuple):
    """What is told of a handler. `headers` are read of the request, `sent` are those of an answer that has what was asked for."""

    may: tuple[str, ...]
    takes: Body | None
    gives: Body | None
    status: int
    means: Mapping[int, str]
    query: Told
    headers: Told
    sent: Told

    def statuses(self, path: str) -> dict[int, str]:
        """Returns all statuses that a request for `path` may get, with what each means, in order."""
        named = "{" in path
        found = {**OF_ALL, **(OF_BODIES if self.takes else {}), **(OF_NAMES if named else {}), **self._refusals(named=named)}
        found[self.status] = "done" if self.gives is None else "as asked"
        found.update(self.means)
        return dict(sorted(found.items()))

    def _refusals(self, *, named: bool) -> dict[int, str]:
        """Returns what the rules let a caller be refused with; `named`: the path names what the rule is about."""
        if not self.may:
            return {}
        may_not = {403: "the caller may see it and not do this with it" if named else "the caller may not do this"}
        hidden = named and any(RULES[action].seen_by for action in self.may)
        return {**may_not, 404: "it is not there, or the caller may not see it"} if hidden else may_not


def operation(
    *may: str,
    takes: str | Body | None = None,
    gives: str | Body | None = None,
    status: int | None = None,
    means: Mapping[int, str] | None = None,
    query: Told | None = None,
    headers: Told | None = None,
    sent: Told | None = None,
) -> Callable[[_Handler], _Handler]:
    """Returns a decorator that tells of a handler. The sentence at the head of its docstring says what it does.

    `may` are the rules of which one or more decide; `takes` and `gives` the documents of the request and of the answer. `status`
    is that of an answer with what was asked for (200, or 204 without a body). `means` tells of other statuses, or more of the
    same.
    """
    given = _body(gives)
    told = Operation(
        may, _body(takes), given, status or (200 if given else 204), means or {}, query or {}, headers or {}, sent or {}
    )

    def tell(handler: _Handler) -> _Handler:
        setattr(handler, _ATTRIBUTE, told)
        if told.takes is not None:
            takes_body(handler)  # type: ignore[arg-type]  # whatever is told of answers calls
        return handler

    return tell


def operation_of(handler: object) -> Operation | None:
    """Returns what is told of a handler."""
    return getattr(handler, _ATTRIBUTE, None)


def _body(named: str | Body | None) -> Body | None:
    return {JSON: named} if isinstance(named, str) else named
