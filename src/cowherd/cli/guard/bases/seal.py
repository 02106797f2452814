"""`cowherd seal`: records the content of a base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.cli.guard.several import each, is_base
from cowherd.sizes import human_size
from cowherd.text import counted, shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.seals.seal import Sealed

NOT_BOUND = 4


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Records the guest content of BASE, block by block, in BASE.seal, and protects the file. A level that the file system\n"
        "or your privileges can't give is reported, with the weaker one that was reached. Sealing again changes the level.\n\n"
        "recorded: no protection\n"
        "readonly: nobody has the write bit\n"
        "immutable: chattr +i as well, which stops root too",
        "cowherd seal debian12.qcow2 --level readonly --shadow",
    )
    parser.add_argument("base", nargs="+", metavar="BASE", help="the image to seal; of a directory, all that others stand on")
    parser.add_level("file", "recorded")
    parser.add_argument("--shadow", action="store_true", help="keep a reflink copy, which costs no space, to repair from")
    parser.add_argument("--bind", action="store_true", help="also record the seal in the overlays of BASE that are there already")
    parser.add_argument(
        "--rebind",
        action="store_true",
        help="also bind those of them that were made on other content: what they show now counts as right, torn or not",
    )
    parser.add_argument("--sign", metavar="KEY", help="sign the seal with the Ed25519 private key in this file (PEM or OpenSSH)")
    parser.add_argument(
        "--force",
        action="store_true",
        help="seal what is damaged, cut off, empty, no disk image, or not what its overlays were made on all the same",
    )
    parser.add_argument("--format", metavar="FMT", help="the format of BASE, where no overlay records it")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return each(arguments, "base", _run, is_base)


def _run(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.seals.seal import seal

    done = seal(
        arguments.base,
        level=arguments.level,
        image_format=arguments.format,
        shadow=arguments.shadow,
        bind=arguments.bind,
        rebind=arguments.rebind,
        sign_with=arguments.sign,
        herd=arguments.herd,
        force=arguments.force,
        progress=progress(f"sealing {shown(arguments.base)}"),
    )
    return Report(done.to_json(), (_line(done),), _notes(done), exit_code=NOT_BOUND if done.contradicted else 0)


def _line(done: Sealed) -> str:
    record = done.record
    shadow = f", shadow {record.shadow}" if record.shadow else ""
    bound = f", {counted(len(done.bound), 'overlay')} bound" if done.bound else ""
    before = "" if done.anew else " (it was sealed before, and its content is the same)"
    signed = f", signed by {record.signature.public_key.hex()[:16]}" if record.signature else ""
    digest = record.content_digest.hex()[:16]
    more = f"{shadow}{signed}{bound}{before}"
    return f"{shown(done.image)}: sealed, {human_size(record.size)}, content {digest}, {record.level.label}{more}"


def _notes(done: Sealed) -> tuple[str, ...]:
    notes = []
    if done.record.level < done.wanted:
        notes.append(
            f"cowherd: {shown(done.image)}: {done.wanted.label} can't be had here; the level reached is {done.record.level.label}"
        )
    if done.shadow_problem:
        notes.append(f"cowherd: {shown(done.image)}: no shadow: {done.shadow_problem}")
    notes += [f"cowherd: not bound: {problem}" for _, problem in done.not_bound]
    return tuple(notes)
