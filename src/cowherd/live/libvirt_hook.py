"""The script that libvirt runs before it starts a machine: its place, its text, and whether it is cowherd's.

Source: https://libvirt.org/hooks.html. libvirt runs `hooks/qemu` and, since 6.5, every executable in `hooks/qemu.d`, in the order
of the names. Everything that starts QEMU (start, restore, an incoming migration) comes through the operation `prepare` with the
sub-operation `begin`; if the script fails there, nothing starts, and its standard error becomes libvirt's error.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cowherd.errors import CowherdError, HostFileError
from cowherd.storage.atomic import write_atomically
from cowherd.text import printable

HOOKS = "etc/libvirt/hooks"
NAME = "90-cowherd"
"""Hooks in qemu.d run in the order of their names; this one runs after hooks that mount the images' file systems."""
MARK = "# cowherd hook 1"
REFUSE, WARN = "refuse", "warn"
_DIRECTORY_SINCE = (6, 5)
_DAEMONS = ("libvirtd", "virtqemud")
_APPARMOR = "etc/apparmor.d/usr.sbin.libvirtd"
_APPARMOR_SWITCH = "sys/module/apparmor/parameters/enabled"
_ALLOWED_BY_APPARMOR = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")
_TIMEOUT_SECONDS = 30


class HookForeign(CowherdError):
    """Another script is at the hook's place. Attributes: `path`, `line` (a line for that script, to be added by hand)."""

    def __init__(self, path: Path, line: str):
        self.path, self.line = path, line

    def __str__(self) -> str:
        return f"{printable(self.path)} is not cowherd's and stays as it is; to have it check as well, add to it:\n{self.line}"


_FIND = "import sys; place = sys.argv.pop(1); place in sys.path or sys.path.insert(0, place); "
_CODE = f"{_FIND}from cowherd.cli.guard.main import program; program()"
_TRY = f"{_FIND}import cowherd.cli.guard.main"


@dataclass(frozen=True)
class Hook:
    """The choices for the script: `arguments` are those of `cowherd hook check`, `on_error` is "refuse" or "warn"."""

    on_error: str = REFUSE
    arguments: tuple[str, ...] = ()
    interpreter: str = field(default_factory=lambda: sys.executable)
    package: Path = field(default_factory=lambda: Path(__file__).parents[2])

    @property
    def command(self) -> tuple[str, ...]:
        """The check as a command, without the machine's name. It finds its Python and its modules without an environment."""
        return (self.interpreter, "-I", "-c", _CODE, str(self.package), "hook", "check", *self.arguments)

    @property
    def script(self) -> str:
        """The script itself."""
        return _SCRIPT.format(
            mark=MARK,
            on_error=self.on_error,
            interpreter=shlex.quote(self.interpreter),
            command=shlex.join(self.command),
        )


_SCRIPT = """\
#!/bin/sh
{mark}: written by 'cowherd hook install libvirt'; 'cowherd hook uninstall libvirt' removes it.
# libvirt runs it with a machine's name, an operation, a sub-operation, and the machine's XML on standard input.
# Everything that starts QEMU comes through "prepare begin"; whatever else libvirt says is none of its business.
[ "$2 $3" = "prepare begin" ] || exit 0
on_error={on_error}
python={interpreter}

failed() {{
    message="cowherd: the check before the start of $1 failed ($2)"
    if [ "$on_error" = warn ]; then
        echo "$message; it starts unchecked" >&2
        command -v logger >/dev/null && logger -t cowherd -p daemon.warning -- "$message; it starts unchecked"
        exit 0
    fi
    echo "$message, so it does not start; 'cowherd hook uninstall libvirt' or 'install --on-error warn' let it" >&2
    exit 1
}}

[ -x "$python" ] || failed "$1" "there is no $python"
{command} --name="$1"
code=$?
case $code in
    0) exit 0 ;;
    3 | 4) exit 1 ;;
    *) failed "$1" "exit code $code" ;;
esac
"""


@dataclass(frozen=True)
class Installation:
    """What `install` did, or with `done` False would do: the script's place and text.

    `replaced` says that cowherd's own older script was there. `first` says that libvirt had no hook for QEMU before, so that a
    running daemon does not look for one until it reloads. `notes` are facts that the administrator must know.
    """

    path: Path
    script: str
    replaced: bool
    first: bool
    notes: tuple[str, ...]
    done: bool


@dataclass(frozen=True)
class Condition:
    """The condition of the hook: its place, whether it is installed, its policy, and why it would not work ("" if it does)."""

    path: Path
    installed: bool
    on_error: str | None
    problem: str


def libvirt_version() -> tuple[int, ...] | None:
    """Returns the version of the libvirt daemon that is installed, None if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    for daemon in _DAEMONS:
        program = shutil.which(daemon, path=path)
        if program:
            done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
            found = re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout)
            if found:
                return tuple(int(number) for number in found.groups())
    return None


def place(root: Path, version: tuple[int, ...] | None) -> Path:
    """Returns the script's place under `root` for a libvirt of this version; None (unknown) counts as new."""
    hooks = root / HOOKS
    return hooks / "qemu" if version is not None and version[:2] < _DIRECTORY_SINCE else hooks / "qemu.d" / NAME


def install(hook: Hook, root: Path, *, dry_run: bool = False) -> Installation:
    """Writes the script under `root`. Raises `HookForeign` if another script has its place, `HostFileError`."""
    path = place(root, libvirt_version())
    there = os.path.lexists(path)
    if there and not is_ours(path):
        raise HookForeign(path, f'{shlex.join(hook.command)} --name="$1"')
    first = not _has_hooks(root)
    if not dry_run:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostFileError(path.parent, "make the directory", error) from error
        write_atomically(path, os.fsencode(hook.script), mode=0o755)
    return Installation(path, hook.script, there, first, _notes(hook, root), done=not dry_run)


def uninstall(root: Path, *, dry_run: bool = False) -> tuple[Path, ...]:
    """Removes cowherd's scripts, and no others; returns their former places. Raises `HostFileError`."""
    found = tuple(path for path in _places(root) if is_ours(path))
    for path in found if not dry_run else ():
        try:
            path.unlink()
        except OSError as error:
            raise HostFileError(path, "remove", error) from error
    return found


def status(root: Path) -> Condition:
    """Returns the condition of the hook under `root`, after trying to run its Python. Raises `HostFileError`."""
    path = next((path for path in _places(root) if is_ours(path)), None)
    if path is None:
        return Condition(place(root, libvirt_version()), installed=False, on_error=None, problem="")
    text = _read(path)
    policy = re.search(r"^on_error=(\w+)$", text, re.MULTILINE)
    return Condition(path, installed=True, on_error=policy[1] if policy else None, problem=_problem(path, text))


def is_ours(path: Path) -> bool:
    """Returns whether the script at `path` is one of cowherd's. Raises `HostFileError` if it can't be read."""
    return os.path.lexists(path) and MARK in _read(path)[:200]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""  # a symbolic link that leads nowhere
    except OSError as error:
        raise HostFileError(path, "read", error) from error


def _places(root: Path) -> tuple[Path, ...]:
    return place(root, None), place(root, (0, 0))


def _has_hooks(root: Path) -> bool:
    single, directory = root / HOOKS / "qemu", root / HOOKS / "qemu.d"
    scripts = [single, *(directory.iterdir() if directory.is_dir() else ())]
    return any(script.is_file() and os.access(script, os.X_OK) for script in scripts)


def _problem(path: Path, text: str) -> str:
    if not os.access(path, os.X_OK):
        return "it is not executable, so libvirt passes over it"
    command = next((shlex.split(line) for line in text.splitlines() if line.endswith(' --name="$1"')), [])
    if len(command) < len(Hook().command):
        return "its command can't be found in it"
    words = [*command[:3], _TRY, command[4]]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except OSError as error:
        return f"its Python does not run: {error.strerror}"
    return "" if done.returncode == 0 else f"its Python does not find cowherd: {done.stderr.strip().splitlines()[-1]}"


def _is_confined(root: Path) -> bool:
    """Returns whether AppArmor is on, and has a profile of libvirtd. The file of the profile may be there without AppArmor."""
    switch = root / _APPARMOR_SWITCH
    return (root / _APPARMOR).exists() and switch.exists() and switch.read_text()[:1] == "Y"


def _notes(hook: Hook, root: Path) -> tuple[str, ...]:
    notes = []
    python = os.path.realpath(hook.interpreter)
    if _is_confined(root) and os.path.dirname(python) not in _ALLOWED_BY_APPARMOR:
        notes.append(
            f"AppArmor's profile of libvirtd does not let it run {printable(python)}; "
            f"add '{printable(python)} PUx,' to /etc/apparmor.d/local/usr.sbin.libvirtd"
        )
    owned = [path for path in (Path(python), hook.package / "cowherd") if path.exists() and path.stat().st_uid]
    notes += [f"libvirtd will run, as root, what the owner of {printable(path)} puts there" for path in owned]
    return tuple(notes)
