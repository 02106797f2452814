"""Small changes of a module's source, each of which a test should notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

CALLS = frozenset(
    {
        "flush",
        "fsync",
        "fdatasync",
        "sync_directory",
        "make_lasting",
        "make_durable",
        "make_durable_if_recent",
        "make_name_lasting",
    }
    | {"lock", "acquire", "lock_for_planning", "lock_for_writing", "require_trusted", "forget_cached", "announce_change"}
    | {
        "announce_override",
        "require_none",
        "require_concerned",
        "require_readable",
        "require_one_format",
        "rebind",
        "check_space",
    }
    | {
        "verify_content",
        "verify_served",
        "protect",
        "identity_after_tick",
        "_require_free",
        "_require_nobody_new",
        "refuse_overlap",
    }
)
"""Calls that keep something safe: flushes, locks, gates and checks. Functions whose names begin with guard_ are, too."""

_SWAPPED: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.BitAnd: "|"}


@dataclass(frozen=True)
class Mutation:
    """Replaces source between two places (line from 1, column in bytes) by `text`.

    `guards`: what is left out kept something safe.
    """

    line: int
    start: tuple[int, int]
    end: tuple[int, int]
    text: str
    what: str
    guards: bool = False

    def applied(self, source: str) -> str:
        """The module's source with the change."""
        lines = [line.encode() for line in source.splitlines(keepends=True)]
        (first, begin), (last, stop) = self.start, self.end
        changed = lines[first - 1][:begin] + self.text.encode() + lines[last - 1][stop:]
        return b"".join((*lines[: first - 1], changed, *lines[last:])).decode()


def mutations(source: str) -> Iterator[Mutation]:
    """Yields the changes that can be made to a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name = _name(node.value)
            yield _replaced(node, "pass", f"without the call of {name}", guards=name in CALLS or name.startswith("guard_"))
        elif isinstance(node, ast.If | ast.While) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield _replaced(node.test, f"not ({ast.unparse(node.test)})", "the condition turned round")
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
            yield _replaced(node, f"(({left}) {_SWAPPED[type(node.ops[0])]} ({right}))", "another comparison")
        elif isinstance(node, ast.BoolOp):
            word = " or " if isinstance(node.op, ast.And) else " and "
            yield _replaced(
                node, f"({word.join(f'({ast.unparse(value)})' for value in node.values)})", f"joined by{word.rstrip()}"
            )
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            text = f"(({ast.unparse(node.left)}) {_OPERATORS[type(node.op)]} ({ast.unparse(node.right)}))"
            yield _replaced(node, text, "another operator")
        elif isinstance(node, ast.With) and len(node.items) == 1 and not node.items[0].optional_vars:
            yield _replaced(node.items[0].context_expr, "__import__('contextlib').nullcontext()", "without its context")


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _replaced(node: ast.expr | ast.stmt, text: str, what: str, *, guards: bool = False) -> Mutation:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return Mutation(node.lineno, (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset), text, what, guards)
