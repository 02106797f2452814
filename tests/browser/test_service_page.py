"""The page of the image service in a real browser: `make browser`. Skipped where the report's tests are."""

from __future__ import annotations

import base64
import re

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="make browser installs Playwright")

# The report's tests can be imported only where Playwright is.
from tests.browser.test_report import COLOURED, CONTRAST, LUMINANCE  # noqa: E402
from tests.browser.test_report import browser as browser  # noqa: E402, PLC0414  # a fixture
from tests.browser.test_report import pytestmark as pytestmark  # noqa: E402, PLC0414  # skips without Chromium
from tests.service.web.page.furnished import HOSTILE, furnish  # noqa: E402
from tests.service.web.running import running  # noqa: E402


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The address of a page with all that it can show, and the ids of some images."""
    directory = tmp_path_factory.mktemp("service")
    with running(directory) as client:
        yield f"http://127.0.0.1:{client.port}/cowherd/", furnish(client, directory)


@pytest.fixture
def opened(browser, service):
    """Opens a page as `opened(scheme, width, image)`, with no script; it complains of nothing and asks for nothing else."""
    complaints, contexts = [], []

    def open_page(scheme: str = "light", width: int = 1280, image: str | None = None):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: re.match(re.escape(service[0]), request.url) or complaints.append(request.url))
        page.goto(service[0] + (f"images/{service[1][image]}" if image else ""))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("image", [None, "damaged", "refused"])
def test_all_text_stands_out_from_its_ground(opened, scheme, image):
    ratio, text = opened(scheme, image=image).evaluate(CONTRAST)
    assert ratio >= 4.5, text


def test_light_is_light_and_dark_is_dark(opened):
    light, dark = (
        opened(scheme).evaluate(f"() => ({LUMINANCE})(getComputedStyle(document.body).backgroundColor)")
        for scheme in ("light", "dark")
    )
    assert light > 0.8
    assert dark < 0.05


@pytest.mark.parametrize("width", [1280, 800, 390])
@pytest.mark.parametrize("image", [None, "hostile", "overlay"])
def test_the_page_is_never_wider_than_the_window(opened, width, image):
    assert opened(width=width, image=image).evaluate("() => document.documentElement.scrollWidth") <= width


def test_each_line_of_the_tree_meets_the_one_below(opened):
    tables = opened().evaluate(
        """() => [...document.querySelectorAll('.tree tbody')].map(body => [...body.rows].slice(1)
            .map(row => row.querySelector('i')?.getBoundingClientRect()).filter(box => box)
            .map(b => [b.left, b.top, b.bottom])).filter(boxes => boxes.length > 3)"""
    )
    assert sorted(len(boxes) for boxes in tables) == [7, 14]
    for boxes in tables:
        assert {left for left, _, _ in boxes} == {boxes[0][0]}
        assert [above[2] for above in boxes[:-1]] == pytest.approx([below[1] for below in boxes[1:]], abs=1.01)


def test_a_state_is_told_in_words_and_by_a_shape(opened, browser):
    row = opened().locator(".tree tr.bad")
    assert row.locator("td").nth(1).inner_text() == "damaged"
    canvas = browser.new_page()
    shape = row.locator("b").screenshot()
    assert canvas.evaluate(COLOURED, base64.b64encode(shape).decode()) > 20
    canvas.close()


def test_names_are_shown_as_they_are(opened):
    page = opened(image="hostile")
    assert page.locator("h1 b").count() == 0
    shown = page.locator("h1").inner_text()
    assert (shown.startswith("<b>bold</b>\\x0a<!--"), "\\u202egnp.exe\\x1b[31m" in shown) == (True, True)
    assert HOSTILE not in page.content()


def test_a_family_is_closed_and_opened_by_keys(opened):
    page = opened()
    family = page.locator("details.family", has_text="windows-2022")
    family.locator("summary").focus()
    page.keyboard.press("Enter")
    assert family.get_attribute("open") is None
    assert not family.locator("table").is_visible()
    page.keyboard.press("Enter")
    assert family.locator("table").is_visible()


def test_keys_lead_to_the_image_and_back(opened, service):
    page = opened()
    page.locator(".tree a", has_text="windows-2022-0").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{service[0]}images/*")
    assert page.locator("h1").inner_text() == "windows-2022-0"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(service[0])


def test_wide_tables_can_be_scrolled_by_keys(opened):
    page = opened(width=390)
    region = page.get_by_role("region", name="stores")
    region.focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(region).not_to_have_js_property("scrollLeft", 0)


def test_an_image_is_found_by_its_name(opened, service):
    page = opened()
    page.get_by_role("searchbox", name="name or id").fill("debian-12-3")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{service[0]}?name=debian-12-3#images")
    assert page.locator(".tree a").all_inner_texts() == ["debian-12", "debian-12-3"]
    page.get_by_role("link", name="all images").click()
    page.wait_for_url(f"{service[0]}#images")


def test_it_can_be_read_where_scripts_are_off(browser, service):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(service[0])
    assert page.locator(".tree a").count() == 32
    context.close()


def test_on_paper_it_is_light(opened):
    page = opened("dark")
    page.emulate_media(media="print")
    assert page.evaluate(f"() => ({LUMINANCE})(getComputedStyle(document.body).backgroundColor)") > 0.9
    assert page.locator(".find").is_hidden()
