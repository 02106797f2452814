"""`cowherd serve`: answers OpenStack's Image API over stores that keep base images whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.cli.guard.adopted import adoption_report
from cowherd.cli.guard.arguments import Group, Parser
from cowherd.cli.guard.output import Report, plain, progress, say
from cowherd.cli.guard.usage import UsageError
from cowherd.distribution import how_to_install
from cowherd.errors import CowherdError
from cowherd.service.web.settings import FIELDS, Settings, read_settings
from cowherd.text import printable, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from dataclasses import Field
    from typing import Any

    from cowherd.service.keeping.fsck.report import Finding

_METAVARS = {str: "TEXT", int: "NUMBER", bool: "true|false", tuple: "A,B"}
_NAMED = {
    "data": "DIR",
    "listen": "HOST:PORT",
    "socket": "PATH",
    "keystone": "URL",
    "tokens": "FILE",
    "database": "URL",
    "signatures_certificates": "DIR",
}
_UNITS = Path("/etc/systemd/system")
_ROLES = ("admin", "manager", "member", "reader", "service")


class ServiceUnavailable(CowherdError):
    """The packages of the service are not installed. Attributes: `package`."""

    def __init__(self, package: str):
        self.package = package

    def __str__(self) -> str:
        return f"the service needs the package {self.package.partition('.')[0]}: {how_to_install('service')}"


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Answers OpenStack's Image API v2 until it is ended. Uploads are hashed and inspected before anybody can read them, and\n"
        "stored once however often they come. Standard error says in one line where it listens, once it answers. SIGTERM lets\n"
        "requests that are under way finish for 30 seconds; SIGHUP has the settings read again, and ends none.\n\n"
        "Every setting below may stand in the file of --config, in TOML, with _ for - in its name.",
        "cowherd serve --data /var/lib/cowherd\n"
        "cowherd serve --data /var/lib/cowherd --new-token --project demo --role member\n"
        "cowherd serve --data /var/lib/cowherd --listen 0.0.0.0:9292 --auth tokens\n"
        "cowherd serve --data /var/lib/cowherd --fsck --repair\n"
        "cowherd serve --data /srv/images --adopt-glance glance-api.conf --dry-run",
    )
    parser.add_argument("--config", metavar="FILE", help="read settings from this file")
    parser.add_argument("--set", dest="words", action="append", default=[], metavar="KEY=VALUE", help="set one (may be repeated)")
    parser.add_argument("--check-config", action="store_true", help="say whether the settings make sense, and end")
    upkeep = parser.add_argument_group("upkeep, also while the service answers")
    upkeep.add_argument("--fsck", action="store_true", help="check the records against the stores and back, and end")
    upkeep.add_argument("--repair", action="store_true", help="with --fsck: put right what can be")
    upkeep.add_argument("--rebuild", action="store_true", help="make lost records again from what the stores have, and end")
    _add_glance(parser)
    parser.add_argument("--install-units", action="store_true", help="write units that let systemd run this, and end")
    parser.add_argument(
        "--unit-dir", type=Path, default=_UNITS, metavar="UNITDIR", help=f"where --install-units writes them (default: {_UNITS})"
    )
    settings = parser.add_argument_group("settings")
    for name, field in FIELDS.items():
        _add_setting(settings, name, field)
    tokens = parser.add_argument_group("callers known by tokens")
    tokens.add_argument("--new-token", action="store_true", help="add a caller to the file of tokens, print the token, and end")
    tokens.add_argument("--user", default="", metavar="NAME", help="the caller's name (default: the project's)")
    tokens.add_argument("--project", default="", metavar="NAME", help="the caller's project")
    tokens.add_argument(
        "--role", action="append", choices=_ROLES, metavar="ROLE", help=f"one of {', '.join(_ROLES)}; may be repeated"
    )


def _add_glance(parser: Parser) -> None:
    group = parser.add_argument_group("moving from Glance, of which nothing is changed")
    group.add_argument(
        "--adopt-glance",
        type=Path,
        metavar="CONF",
        help="adopt the images of the Glance with this glance-api.conf: records, metadata definitions and file stores; and end",
    )
    group.add_argument("--dry-run", action="store_true", help="with --adopt-glance: read all of it, and only say what would be")
    group.add_argument(
        "--hard-links",
        action="store_true",
        help="with --adopt-glance: where blocks can't be shared, have Glance's files and ours be the same, read-only ones",
    )


def _add_setting(group: Group, name: str, field: Field[Any]) -> None:
    text = field.metadata["help"]
    if field.default not in ("", ()):
        default = ",".join(field.default) if isinstance(field.default, tuple) else str(field.default).lower()
        text = f"{text} (default: {default})"
    if name == "stores":
        group.add_argument("--store", dest="stores", action="append", metavar="NAME=DIR", help=text)
    else:
        metavar = _NAMED.get(name, _METAVARS[type(field.default)])
        group.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text)


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    if arguments.install_units:
        return _install(arguments.unit_dir)
    settings = _read(arguments)
    if arguments.check_config:
        document = {name: plain(getattr(settings, name)) for name in FIELDS}
        return Report({"settings": document}, ("the settings make sense",))
    _require_sense(arguments)
    try:
        if arguments.fsck:
            return _fsck(settings, repair=arguments.repair)
        if arguments.rebuild:
            return _rebuild(settings)
        if arguments.adopt_glance:
            return _adopt_glance(settings, arguments)
        return _new_token(arguments, settings) if arguments.new_token else _serve(settings, lambda: _read(arguments))
    except ModuleNotFoundError as error:
        raise ServiceUnavailable(error.name or "?") from error


def _require_sense(arguments: argparse.Namespace) -> None:
    """Raises `UsageError` for an option that says how another is to be done, and that one is not there."""
    if arguments.repair and not arguments.fsck:
        raise UsageError("--repair says what --fsck does with what it finds", "cowherd serve --data DIR --fsck --repair")
    for name in ("dry_run", "hard_links"):
        if getattr(arguments, name) and not arguments.adopt_glance:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} says how --adopt-glance is done", f"cowherd serve --data DIR --adopt-glance glance-api.conf {option}"
            )


def _new_token(arguments: argparse.Namespace, settings: Settings) -> Report:
    from cowherd.service.web.callers import add_token

    if not arguments.project:
        raise UsageError("whose token is it?", "as in: cowherd serve --data DIR --new-token --project NAME --role member")
    roles = tuple(arguments.role or ("member",))
    token = add_token(settings.tokens_path, arguments.user or arguments.project, arguments.project, roles)
    return Report({"token": token, "project": arguments.project, "roles": list(roles)}, (token,))


def _fsck(settings: Settings, *, repair: bool) -> Report:
    from cowherd.service.web.upkeep import fsck

    findings = fsck(settings, repair=repair)
    left = sum(one.is_left for one in findings)
    lines = [_line(one) for one in findings]
    lines.append(f"{left} of {len(findings)} findings are left" if findings else "everything is as it should be")
    document = {"findings": [one._asdict() for one in findings], "left": left}
    return Report(document, tuple(lines), exit_code=4 if left else 0)


def _line(finding: Finding) -> str:
    facts = {"image": finding.image, "blob": finding.blob, "store": finding.store}
    where = ", ".join(f"{name} {printable(value)}" for name, value in facts.items() if value)
    return f"{finding.kind}{' (repaired)' if finding.repaired else ''}: {where}: {printable(finding.problem)}"


def _rebuild(settings: Settings) -> Report:
    from cowherd.service.web.upkeep import rebuild_records

    rebuilt = rebuild_records(settings)
    lines = (*map(printable, rebuilt.problems), f"{rebuilt.images} images and {rebuilt.blobs} blobs are recorded")
    return Report(rebuilt._asdict(), lines, exit_code=4 if rebuilt.problems else 0)


def _adopt_glance(settings: Settings, arguments: argparse.Namespace) -> Report:
    from cowherd.service.web.upkeep import adopt_glance

    adopted = adopt_glance(
        settings,
        arguments.adopt_glance,
        dry_run=arguments.dry_run,
        hard_links=arguments.hard_links,
        progress=progress("read from Glance"),
    )
    return adoption_report(adopted)


def _read(arguments: argparse.Namespace) -> Settings:
    return read_settings(arguments.config, arguments.words, {name: getattr(arguments, name) for name in FIELDS})


def _install(target: Path) -> Report:
    from cowherd.cli.guard.units import SERVICE, install, this_program

    written = install(target, (), this_program(), SERVICE)
    lines = (*(f"{shown(path)} written" for path in written), "now: systemctl daemon-reload")
    more = ("     useradd --system --home-dir /var/lib/cowherd cowherd", "     systemctl enable --now cowherd-serve.socket")
    return Report({"written": [str(path) for path in written]}, lines + more)


def _serve(settings: Settings, read_again: Callable[[], Settings]) -> Report:
    from cowherd.service.web.run import run_service

    run_service(settings, lambda said: say(f"cowherd: {said}"), read_again)
    return Report({"served": settings.data})
