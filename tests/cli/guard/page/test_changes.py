from __future__ import annotations

import random
import re
from pathlib import Path
from types import SimpleNamespace

from cowherd.cli.guard.look.page.changes import Paper, change_of
from cowherd.cli.guard.look.page.markup import Places
from cowherd.herd.impact.filediff import Difference
from cowherd.herd.impact.inside import Inside
from cowherd.herd.impact.placing import Placed
from cowherd.herd.report.overview import DriftPicture, HitPicture

GIB = 1 << 30
BLOCK = 65536
PLACES = Places(SimpleNamespace(tree=SimpleNamespace(directory_names=("/srv",))))


def hit(name, exposed=((0, BLOCK),), shielded=(), verdict="torn", **facts):
    return HitPicture(Path(f"/srv/{name}"), verdict, exposed, shielded, facts.pop("problem", None), **facts)


def written(*hits, room=1 << 20) -> str:
    drift = DriftPicture(Path("/srv/base"), GIB, ((0, BLOCK),), None, hits)
    return "\n".join(change_of(drift, "drifted", PLACES, Paper(room)))


def test_5000_overlays_that_all_see_something_else_do_not_make_the_page_too_large():
    random.seed(5)
    starts = [sorted(random.sample(range(0, GIB, 2 * BLOCK), 400)) for _ in range(5000)]
    text = written(
        *(hit(f"overlay-{number:04}", tuple((one, one + BLOCK) for one in many)) for number, many in enumerate(starts)),
        room=512 << 10,
    )
    assert text.count("exposed") == 5000
    assert 40 < text.count("sees the change") < 5000
    assert len(text) < 2 << 20


def test_the_worst_comes_first_and_among_equals_the_most():
    text = written(
        hit("a", verdict="intact"), hit("b"), hit("c", ((5, 6),)), hit("d", ((5, 6),)), hit("e", verdict="synchronised")
    )
    places = [text.index(name) for name in ("2 overlays", "name>b</span>", "name>e</span>", "name>a</span>")]
    assert places == sorted(places)


def test_what_is_inside_is_named_and_no_more_than_a_dozen_of_a_kind():
    found = Difference(changed=[f"/<f{number}>" for number in range(20)], lost=["/gone"])
    inside = Inside(
        "torn", {"partition 1": found}, {("partition 1", "inode table"): 4096}, [("partition 1", None, "no copy")], []
    )
    text = written(hit("a", inside=inside))
    assert "changed in partition 1: <span class=name>/&lt;f0&gt;, " in text
    assert "/&lt;f11&gt;</span>, and 8 more" in text
    assert all(words in text for words in ("lost in partition 1", "/gone", "inode table (4 KiB)", "partition 1: no copy"))


def test_what_file_lies_where_stands_below_the_strip_with_numbers_at_its_places():
    near = [Placed("partition 1", f"/near{number}", GIB // 2 + number * BLOCK, BLOCK) for number in range(20)]
    far = Placed("partition 1", "/<far>", GIB - BLOCK, 4096)
    text = written(hit("a", inside=Inside("torn", placed=[far, *near])))
    assert re.findall(r"<line x1=\"([\d.]+)%\"[^>]*/><text class=\w+ [^>]*>(\d)</text>", text.partition("signposts")[2]) == [
        ("50", "1"),
        ("99.99", "2"),
    ]
    first, second = re.findall(r"<li>at (.*?)</li>", text)
    assert first.startswith("512 MiB: <span class=name>/near0 (64 KiB), /near1 ")
    assert first.endswith("/near11 (64 KiB)</span>, and 8 more")
    assert second == "1 GiB: <span class=name>/&lt;far&gt; (4 KiB)</span>"
    assert "signposts" not in written(hit("a", inside=Inside("torn")))


def test_overlays_with_the_same_blocks_and_other_files_are_told_apart():
    one, other = (Inside("torn", {"disk": Difference(changed=[name])}) for name in ("/a", "/b"))
    text = written(hit("x", inside=one), hit("y", inside=other))
    assert "2 overlays" not in text


def test_a_dependent_that_can_not_be_read_says_why():
    assert "<div>no &lt;way&gt;</div>" in written(hit("a", verdict="unreadable", problem="no <way>"))
