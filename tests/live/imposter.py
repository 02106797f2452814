"""Plays a machine that answers its monitor as it likes: `python imposter.py IMAGE ANSWERS -qmp unix:SOCKET,server=on,wait=off`.

It has IMAGE open. ANSWERS is a JSON object with the answer to each command. A command that is not in it is not known.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys


def main() -> None:
    """Listens until somebody ends it."""
    image, answers, _, monitor = sys.argv[1:]
    known = {name: json.dumps(answer) for name, answer in json.loads(answers).items()} | {"qmp_capabilities": "{}"}
    with open(image, "r+b"), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(monitor.removeprefix("unix:").partition(",")[0])
        listener.listen()
        print("ready", flush=True)
        while True:
            with listener.accept()[0] as connection, contextlib.suppress(OSError):  # a client may hang up at any time
                serve(connection, known)


def serve(connection: socket.socket, known: dict[str, str]) -> None:
    """Greets a client, and answers until it hangs up."""
    connection.sendall(
        b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}\n'
    )
    while request := connection.recv(1 << 16):
        told = json.loads(request)
        unknown = '"error": {"class": "CommandNotFound", "desc": "not known"}'
        answer = known.get(told["execute"])
        done = unknown if answer is None else f'"return": {answer}'
        connection.sendall(f'{{{done}, "id": {json.dumps(told.get("id"))}}}\n'.encode())


if __name__ == "__main__":
    main()
