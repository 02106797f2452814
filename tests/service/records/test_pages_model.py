"""Pages are what the rules say of every image, whatever was recorded and asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from cowherd.service.records import pages
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image
from cowherd.service.records.pages import Query, Viewer, page
from cowherd.service.records.schema import members

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NAMES, TAGS, VALUES = ["", "a", "A", "%", "\u00e9"], ["t", "u"], ["1", "2"]
PROJECTS = st.sampled_from(["p", "q", None])
VISIBILITIES = ["private", "shared", "community", "public"]

IMAGES = st.builds(
    dict,
    name=st.sampled_from([*NAMES, None]),
    owner=PROJECTS,
    visibility=st.sampled_from(VISIBILITIES),
    os_hidden=st.sampled_from([False, False, True]),
    status=st.sampled_from(["queued", "active"]),
    size=st.sampled_from([None, 0, 7]),
    tags=st.lists(st.sampled_from(TAGS), unique=True).map(tuple),
    properties=st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(VALUES)),
    created_at=st.integers(0, 3).map(lambda minutes: FIRST + timedelta(minutes=minutes)),
    lent=st.dictionaries(st.sampled_from(["p", "q"]), st.sampled_from(["pending", "accepted", "rejected"])),
)

QUERIES = st.builds(
    Query,
    choices=st.dictionaries(
        st.sampled_from(["name", "status", "owner"]), st.lists(st.sampled_from([*NAMES, "active", "p"]), min_size=1)
    ),
    at_least=st.dictionaries(st.just("size"), st.integers(0, 8)),
    tags=st.lists(st.sampled_from(TAGS), max_size=2),
    properties=st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(VALUES)),
    visibility=st.sampled_from([None, "all", *VISIBILITIES]),
    os_hidden=st.booleans(),
    member_status=st.sampled_from(["accepted", "pending", "all"]),
    sort=st.lists(st.tuples(st.sampled_from(pages.SORT_KEYS), st.booleans()), max_size=3, unique_by=lambda pair: pair[0]),
)

VIEWERS = st.builds(Viewer, PROJECTS, st.booleans())


def sees(viewer: Viewer, query: Query, image: Image, lent: dict[str, str]) -> bool:
    own = viewer.project is not None and image.owner == viewer.project
    asked = query.visibility in (None, "all", image.visibility)
    if query.visibility is None and image.visibility == "community" and not own:
        return False
    if viewer.everything or own or image.visibility in ("public", "community"):
        return asked
    status = lent.get(viewer.project)
    return asked and image.visibility == "shared" and status is not None and query.member_status in ("all", status)


def matches(query: Query, image: Image) -> bool:
    return (
        image.os_hidden == query.os_hidden
        and all(getattr(image, field) in values for field, values in query.choices.items())
        and all((getattr(image, field) is not None and getattr(image, field) >= least) for field, least in query.at_least.items())
        and set(query.tags) <= set(image.tags)
        and query.properties.items() <= image.properties.items()
    )


def ordered(query: Query, images: list[Image]) -> list[str]:
    asked = list(query.sort)
    falls = asked[0][1] if len(asked) == 1 else True
    asked += [(key, falls) for key in ("created_at", "id") if key not in dict(asked)]
    for key, descends in reversed(asked):
        nothing = -1 if key == "size" else ""
        images = sorted(images, key=lambda one: nothing if getattr(one, key) is None else getattr(one, key), reverse=descends)
    return [image.id for image in images]


# Few is made so small that what is common, and seen by many, occurs.
@pytest.mark.parametrize("few", [1, 1000])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(IMAGES, max_size=8), query=QUERIES, viewer=VIEWERS)
def test_a_page_is_what_the_rules_say(connection, few, drawn, query, viewer):
    images, lent = [], {}
    with connection.begin_nested() as everything, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "FEW", few)
        for number, facts in enumerate(drawn):
            lent[f"{number}"] = facts["lent"]
            images.append(Image(id=f"{number}", updated_at=FIRST, **{name: facts[name] for name in facts if name != "lent"}))
            create_image(connection, images[-1])
            for member, status in facts["lent"].items():
                row = {"image_id": f"{number}", "member": member, "status": status, "created_at": FIRST, "updated_at": FIRST}
                connection.execute(insert(members), row)
        expected = ordered(query, [one for one in images if matches(query, one) and sees(viewer, query, one, lent[one.id])])
        assert [image.id for image in page(connection, query, viewer)] == expected
        everything.rollback()
