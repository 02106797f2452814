"""--help texts, made from the declarations."""

from __future__ import annotations

import textwrap

from cowherd.cli.img.options import Option, Syntax

_WIDTH = 100
_HELP = Option("help", "h", help="print this help and exit")


def command_help(syntax: Syntax, program: str) -> str:
    """Returns the help text of one command, called through `program`."""
    parts = [
        f"{syntax.summary}.\n",
        _usage(syntax, program),
        "Options:\n" + "".join(_entry(_heading(option), option.help) for option in (_HELP, *syntax.options)),
    ]
    if syntax.operands:
        parts.append("Operands:\n" + "".join(_entry(name, text) for name, text in syntax.operands))
    if syntax.notes:
        parts.append(textwrap.fill(syntax.notes, _WIDTH) + "\n")
    examples = "".join(_entry(f"{program} {example.line}", example.purpose) for example in syntax.examples)
    parts.append("Examples:\n" + examples)
    return "\n".join(parts)


def _usage(syntax: Syntax, program: str) -> str:
    words = [f"[{_short_form(option)}]" for option in syntax.options]
    words += [name for name, _ in syntax.operands]
    lead = f"  {program} {syntax.name} "
    # A no-break space holds an option and its argument together while the lines are filled.
    text = textwrap.fill(
        " ".join(word.replace(" ", "\u00a0") for word in words),
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "Usage:\n" + text.replace("\u00a0", " ") + "\n"


def _short_form(option: Option) -> str:
    name = f"-{option.short}" if option.short else f"--{option.long}"
    return f"{name} {option.argument}" if option.argument else name


def _heading(option: Option) -> str:
    names = [f"-{option.short}"] * bool(option.short) + [f"--{option.long}"] * bool(option.long)
    return ", ".join(names) + (f" {option.argument}" if option.argument else "")


def _entry(heading: str, text: str) -> str:
    indent = " " * 6
    return f"  {heading}\n" + textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent) + "\n"
