"""`cowherd watch`: reports a write to a sealed base as it happens, with its author and the overlays that it hits."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.cli.guard.arguments import Parser, duration_argument, size_argument
from cowherd.cli.guard.output import Report, progress, say, table
from cowherd.cli.guard.usage import UsageError
from cowherd.cli.guard.watched import directories_of
from cowherd.errors import InvalidRequest
from cowherd.text import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from cowherd.herd.watch.daemon import Daemon
    from cowherd.herd.watch.events import Event
    from cowherd.herd.watch.reporting.hook import Hook
    from cowherd.herd.watch.reporting.metrics import Metrics
    from cowherd.herd.watch.reporting.report import Reporter

FOUND = 4
_RATE, _SETTLE, _EVERY, _EXEC_LIMIT = 50 << 20, 2.0, 86400.0, 30.0
_UNITS = Path("/etc/systemd/system")


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Watches the sealed images under some directories until it is ended. A write to one, its replacement or its removal is\n"
        "reported as it happens, with the process that did it (fanotify, which needs root; otherwise inotify, and whoever has\n"
        "the file open is named as a hint). When the writing has settled, the blocks that differ are found, and the overlays\n"
        "that are hit. Apart from that every base is read again once in a while. Nothing is locked, and nothing changed.\n"
        "With --quiet, events that are mere information are not logged.\n\n"
        "--once reads every sealed image once, at the same rate, and ends: exit code 4 if one is not as sealed.",
        "cowherd watch /var/lib/libvirt/images --exec /usr/local/bin/tell\n"
        "cowherd watch --once --rate 100M /var/lib/libvirt/images\n"
        "cowherd watch --install-units /var/lib/libvirt/images",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="where to look (default: the current directory)")
    parser.add_argument("--once", action="store_true", help="read every sealed image once and end")
    _add_pace(parser)
    _add_reports(parser)
    parser.add_argument("--install-units", action="store_true", help="write units that let systemd run this, and end")
    parser.add_argument(
        "--unit-dir", type=Path, default=_UNITS, metavar="UNITDIR", help=f"where --install-units writes them (default: {_UNITS})"
    )
    parser.add_herd()


def _add_pace(parser: Parser) -> None:
    parser.add_argument(
        "--rate",
        type=size_argument,
        default=_RATE,
        metavar="BYTES",
        help="read no faster than this a second; 0: no limit (default: 50M)",
    )
    parser.add_argument(
        "--settle",
        type=duration_argument,
        default=_SETTLE,
        metavar="TIME",
        help="examine a base when nothing has been done to it for so long (default: 2s)",
    )
    parser.add_argument(
        "--every",
        type=lambda text: None if text == "never" else duration_argument(text),
        default=_EVERY,
        metavar="TIME",
        help="read every sealed image again after so long, as in 12h; or never (default: 1d)",
    )
    parser.add_argument("--inotify", action="store_true", help="do not try fanotify")


def _add_reports(parser: Parser) -> None:
    parser.add_argument(
        "--exec",
        dest="command",
        metavar="COMMAND",
        help="run this for each event, without a shell, with the facts as JSON on its input",
    )
    parser.add_argument(
        "--exec-limit",
        type=duration_argument,
        default=_EXEC_LIMIT,
        metavar="TIME",
        help="kill a run that takes longer (default: 30s)",
    )
    parser.add_argument(
        "--events",
        action="append",
        default=[],
        metavar="FILE",
        help="append each event as a line of JSON; - is standard output (may be repeated)",
    )
    parser.add_argument("--metrics", metavar="[ADDRESS:]PORT", help="serve metrics for Prometheus (address: 127.0.0.1)")
    parser.add_argument("--metrics-anywhere", action="store_true", help="allow an address that other machines can reach")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    named = [*arguments.directories, *arguments.herd]
    if arguments.install_units:
        return _install(arguments.unit_dir, named)
    if arguments.json and "-" in arguments.events:
        raise UsageError("--json and --events - both want standard output", "as in: cowherd watch --events FILE --json")
    directories = directories_of(arguments)
    return _once(arguments, directories) if arguments.once else _watch(arguments, directories)


class _Counted:
    """Counts events by kind, for the document at the end."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def report(self, event: Event) -> None:
        """Counts one event."""
        self.counts[event.kind.value] = self.counts.get(event.kind.value, 0) + 1

    def reopen(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class _Reporters:
    """The reporters for the arguments. All that were opened are closed, even if one of them can't be."""

    def __init__(self, arguments: argparse.Namespace, complain: Callable[[str], None]):
        from cowherd.herd.watch.reporting.log import Log

        self.counted = _Counted()
        log = Log(verbose=not arguments.quiet and not arguments.once)
        self.all: list[Reporter] = [self.counted]
        if log.to_journal or not arguments.once:  # on a terminal the table of --once says the same
            self.all.append(log)
        self.metrics: Metrics | None = None
        self.hook: Hook | None = None
        try:
            self._open(arguments, complain)
        except BaseException:
            self.close()
            raise

    def _open(self, arguments: argparse.Namespace, complain: Callable[[str], None]) -> None:
        for target in arguments.events:
            from cowherd.herd.watch.reporting.jsonlines import JsonLines

            self.all.append(JsonLines(target, complain))
        if arguments.metrics:
            from cowherd.herd.watch.reporting.metrics import Metrics

            self.metrics = Metrics(arguments.metrics, anywhere=arguments.metrics_anywhere)
            self.all.append(self.metrics)
        if arguments.command:
            from cowherd.herd.watch.reporting.hook import Hook

            self.hook = Hook(arguments.command, arguments.exec_limit, complain)
            self.all.append(self.hook)

    def close(self) -> None:
        """Closes all reporters."""
        for reporter in self.all:
            reporter.close()


def _watch(arguments: argparse.Namespace, directories: tuple[Path, ...]) -> Report:
    from cowherd.herd.watch.daemon import Daemon, Settings

    settings = Settings(directories, arguments.rate or None, arguments.settle, arguments.every, fanotify=not arguments.inotify)
    complaints: queue.SimpleQueue[str] = queue.SimpleQueue()
    reporters = _Reporters(arguments, complaints.put)
    try:
        Daemon(settings, reporters.all, complaints, lambda daemon: _show_figures(reporters, daemon)).run()
    finally:
        reporters.close()
    document = {"directories": [os.fspath(path) for path in directories], "events": reporters.counted.counts}
    return Report(document, ())


def _show_figures(reporters: _Reporters, daemon: Daemon) -> None:
    if reporters.metrics:
        from cowherd.herd.watch.reporting.figures import figures_of

        reporters.metrics.show(figures_of(daemon, reporters.hook))


def _once(arguments: argparse.Namespace, directories: tuple[Path, ...]) -> Report:
    from cowherd.herd.watch.once import check_once

    if arguments.metrics:
        raise UsageError("--metrics needs a watch that goes on", "leave out --once, as in: cowherd watch --metrics PORT DIR")
    reporters = _Reporters(arguments, lambda problem: say(f"cowherd: {problem}"))
    try:
        checked = check_once(directories, arguments.rate or None, reporters.all, lambda path: progress(f"reading {shown(path)}"))
        if reporters.hook:
            reporters.hook.finish(arguments.exec_limit)
    finally:
        reporters.close()
    fine = all(row.fine for row in checked)
    lines = table((row.outcome, shown(row.path), row.detail) for row in checked) or ["no sealed images"]
    document = {"bases": [row.to_json() for row in checked], "fine": fine}
    return Report(document, tuple(lines), exit_code=0 if fine else FOUND)


def _install(target: Path, directories: list[str]) -> Report:
    from cowherd.cli.guard.units import install, this_program

    if not directories:
        raise InvalidRequest("--install-units needs the directories to watch, as in --install-units /srv/vms")
    written = install(target, [os.path.realpath(directory) for directory in directories], this_program())
    document: dict[str, Any] = {"written": [os.fspath(path) for path in written]}
    return Report(
        document,
        (
            *(f"{shown(path)} written" for path in written),
            "now: systemctl daemon-reload",
            "     systemctl enable --now cowherd-watch.service   to watch all the time, or",
            "     systemctl enable --now cowherd-verify.timer    to read everything once a night",
        ),
    )
