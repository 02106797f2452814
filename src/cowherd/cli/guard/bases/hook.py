"""`cowherd hook`: has libvirt run a check before it starts a machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.cli.guard.bases import starting
from cowherd.cli.guard.output import Report
from cowherd.errors import InvalidRequest
from cowherd.text import printable

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from cowherd.cli.guard.arguments import Parser

NOT_WORKING = 1


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "install    puts a script where libvirt looks for one: before QEMU starts (a start, a restore, an incoming migration)\n"
        "           it checks the chains of all disks of the machine; on drift, a missing base, an interrupted merge, or a disk\n"
        "           that others stand on nothing starts, and virsh shows why. Another hook is never replaced\n"
        "uninstall  removes that script\n"
        "status     says whether it is there and works (exit code 1 if not)\n"
        "check      is what the script runs: reads a domain's XML from standard input; 0 if it may start, else 3 or 4",
        "cowherd hook install libvirt\nvirsh dumpxml web | cowherd hook check",
    )
    parser.add_argument("action", choices=("install", "uninstall", "status", "check"), metavar="install|uninstall|status|check")
    parser.add_argument("manager", nargs="?", choices=("libvirt",), default="libvirt", metavar="libvirt")
    starting.add_options(parser)
    parser.add_argument(
        "--on-error",
        choices=("refuse", "warn"),
        default="refuse",
        help="install: if the check itself fails, start nothing (the default), or start all the same and tell the system's log",
    )
    parser.add_argument("--root", default="/", metavar="DIR", help="the directory that holds etc/libvirt/hooks (default: /)")
    parser.add_dry_run()
    parser.add_argument("--name", help="check: the machine's name, for messages (default: the one in the XML)")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return {"install": _install, "uninstall": _uninstall, "status": _status, "check": _check}[arguments.action](arguments)


def _install(arguments: argparse.Namespace) -> Report:
    from cowherd.live.libvirt_hook import Hook, install

    done = install(Hook(arguments.on_error, _check_arguments(arguments)), Path(arguments.root), dry_run=arguments.dry_run)
    what = ("would be " if not done.done else "") + ("replaced" if done.replaced else "installed")
    lines = [f"{printable(done.path)}: {what}; if the check fails: {arguments.on_error}"]
    if arguments.dry_run:
        lines += done.script.splitlines()
    elif done.first:
        lines.append("a libvirt daemon that runs does not know it yet: systemctl reload libvirtd (or virtqemud)")
    document = {
        "path": os.fspath(done.path),
        "done": done.done,
        "replaced": done.replaced,
        "reload_needed": done.first,
        "notes": list(done.notes),
        "script": done.script,
    }
    return Report(document, tuple(lines), tuple(f"cowherd: {note}" for note in done.notes))


def _check_arguments(arguments: argparse.Namespace) -> tuple[str, ...]:
    flags = {"--full": arguments.full, "--strict": arguments.strict, "--no-dependents": arguments.no_dependents}
    flags["--allow-unknown"] = arguments.allow_unknown
    herd = (word for directory in arguments.herd for word in ("--herd", os.path.abspath(directory)))
    return (*(flag for flag, given in flags.items() if given), *herd)


def _uninstall(arguments: argparse.Namespace) -> Report:
    from cowherd.live.libvirt_hook import uninstall

    removed = uninstall(Path(arguments.root), dry_run=arguments.dry_run)
    what = "would be removed" if arguments.dry_run else "removed"
    lines = tuple(f"{printable(path)}: {what}" for path in removed) or ("there is none",)
    return Report({"removed": [os.fspath(path) for path in removed], "done": not arguments.dry_run}, lines)


def _status(arguments: argparse.Namespace) -> Report:
    from cowherd.live.libvirt_hook import status

    found = status(Path(arguments.root))
    state = found.problem or "works" if found.installed else "not installed"
    policy = f"; if the check fails: {found.on_error}" if found.installed else ""
    document: dict[str, Any] = {
        "path": os.fspath(found.path),
        "installed": found.installed,
        "on_error": found.on_error,
        "problem": found.problem,
    }
    works = found.installed and not found.problem
    return Report(document, (f"{printable(found.path)}: {state}{policy}",), exit_code=0 if works else NOT_WORKING)


def _check(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.gate.startup import check_start
    from cowherd.live.machine.domain import MAX_BYTES, drives_of, name_of

    if sys.stdin.isatty():
        raise InvalidRequest("a domain's XML is expected on standard input, as in: virsh dumpxml web | cowherd hook check")
    xml = sys.stdin.buffer.read(MAX_BYTES + 1)
    found = check_start(drives_of(xml, arguments.root), **starting.options_of(arguments), directory="/")
    name = printable(arguments.name or name_of(xml))
    lines = () if found.exit_code else starting.lines(found)
    said = starting.reasons(found, name) if found.exit_code else starting.remarks(found)
    return Report(found.to_json(), lines, said, found.exit_code)
