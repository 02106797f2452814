"""Compares the answers of `cowherd serve` with those that Glance gave: `python -m tests.openstack.recorder [SCENE ...]`.

Needs neither Glance nor keystone: the callers have tokens of the service's own. Every difference without a reason is printed.
"""

from __future__ import annotations

import argparse
import sys

from tests.openstack.images_web import images_web
from tests.openstack.processes import folder_in_memory, free_port
from tests.openstack.recorder.asked import PERSONAS, asked_with_tokens
from tests.openstack.recorder.compare import differences
from tests.openstack.recorder.play import play
from tests.openstack.recorder.reasons import report
from tests.openstack.recorder.records import read_records
from tests.openstack.recorder.scenes import SCENES
from tests.openstack.served import new_token, served


def main() -> int:
    """Returns 1 if an answer differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.openstack.recorder", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="only these, as in 'list filters' (default: all)")
    chosen = parser.parse_args().scenes
    scenes = [scene for scene in SCENES if not chosen or scene.name in chosen]
    glance = {title: answer for title, answer in read_records().items() if not chosen or title.split(":")[0] in chosen}
    with folder_in_memory() as folder, images_web(folder / "web") as web_port:
        data = folder / "service"
        tokens = {who: new_token(data, f"user-{who}", project, (role,)) for who, (project, role) in PERSONAS.items()}
        with served(data, free_port(), None, web_port) as url:
            found = differences(glance, play(scenes, asked_with_tokens(url, tokens, web_port)))
    text, good = report(found)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
