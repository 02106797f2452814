"""The report in a real browser: `make browser`. Without Playwright and a Chromium, as in CI, these tests are skipped."""

from __future__ import annotations

import base64
import shutil
import time

import pytest

from bench.herds import header, write_image
from cowherd.cli.guard.main import main
from cowherd.herd.overlays.clone import clone
from tests.cli.guard.test_report import served
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write

playwright = pytest.importorskip("playwright.sync_api", reason="make browser installs Playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.qemu("qemu-io"), pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

MIB = 1 << 20
SLOW_MS = 60_000
"""The time that Playwright may take to look through a page of thousands of images; the page itself is quick."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of a herd with all that a page can show."""
    herd = tmp_path_factory.mktemp("herd")
    make_base(herd / "base.qcow2", noise(MIB))
    for name in "abc":
        clone(herd / "base.qcow2", herd / f"{name}.qcow2")
    make_overlay(herd / "deeper.qcow2", "a.qcow2")
    make_overlay(herd / f"{'long-' * 30}.qcow2", "deeper.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", herd / "huge.qcow2", "1T")
    clone(herd / "huge.qcow2", herd / "small-hit.qcow2")
    write(herd / "huge.qcow2", "write -P 1 700G 512")
    make_overlay(herd / "<b>name<!--.qcow2", "base.qcow2")
    write(herd / "b.qcow2", "write -P 7 512k 64k")
    write(herd / "base.qcow2", "write -P 1 512k 128k", "write -P 1 0 512")
    assert main(["report", "-o", str(herd / "page.html"), str(herd)]) == 0
    return herd / "page.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, report):
    """Opens the page as `opened(scheme, width)`; the page complains of nothing and asks for nothing."""
    complaints, pages = [], []

    def open_page(scheme: str, width: int = 1280):
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url == report.as_uri() or complaints.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


LUMINANCE = """(color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""

# The least contrast of any text with what lies behind it, by the formula of WCAG 2.
CONTRAST = f"""() => {{
    const luminance = {LUMINANCE};
    const behind = (element) => {{
        for (; element; element = element.parentElement) {{
            const color = getComputedStyle(element).backgroundColor;
            if (!/, 0\\)$/.test(color)) return color;
        }}
        return 'rgb(255, 255, 255)';
    }};
    let least = [99, ''];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {{
        const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
        if (!text) continue;
        const one = luminance(getComputedStyle(parent).color), two = luminance(behind(parent));
        const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        if (ratio < least[0]) least = [ratio, text];
    }}
    return least;
}}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(opened, scheme):
    ratio, text = opened(scheme).evaluate(CONTRAST)
    assert ratio >= 4.5, text


def test_light_is_light_and_dark_is_dark(opened):
    light, dark = (
        opened(scheme).evaluate(f"() => ({LUMINANCE})(getComputedStyle(document.body).backgroundColor)")
        for scheme in ("light", "dark")
    )
    assert light > 0.8
    assert dark < 0.05


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_the_page_is_never_wider_than_the_window(opened, width):
    assert opened("light", width).evaluate("() => document.documentElement.scrollWidth") <= width


def test_each_line_of_the_tree_meets_the_one_below(opened):
    tables = opened("light").evaluate(
        """() => [...document.querySelectorAll('.tree tbody')].filter(body => body.rows.length > 3)
            .map(body => [...body.rows].slice(1).map(row => row.querySelector('i').getBoundingClientRect())
            .map(b => [b.left, b.top, b.bottom]))"""
    )
    assert [len(boxes) for boxes in tables] == [6]
    for boxes in tables:
        assert {left for left, _, _ in boxes} == {boxes[0][0]}
        assert [above[2] for above in boxes[:-1]] == pytest.approx([below[1] for below in boxes[1:]], abs=1.01)


def test_what_changed_is_in_one_column_for_the_base_and_its_dependents(opened):
    columns = opened("light").evaluate(
        "() => [...document.querySelectorAll('.strip')].map(e => e.getBoundingClientRect()).map(b => [b.left, b.right])"
    )
    assert len(columns) == 5
    assert len({tuple(column) for column in columns}) == 1


# The number of pixels of a picture (PNG, in base64) that have a strong colour.
COLOURED = """async (png) => {
    const picture = new Image();
    picture.src = 'data:image/png;base64,' + png;
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.width, picture.height).getContext('2d');
    canvas.drawImage(picture, 0, 0);
    const bytes = canvas.getImageData(0, 0, picture.width, picture.height).data;
    let found = 0;
    for (let i = 0; i < bytes.length; i += 4) {
        const colour = [...bytes.slice(i, i + 3)];
        found += Math.max(...colour) - Math.min(...colour) > 60;
    }
    return found;
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_the_smallest_change_of_a_large_disk_can_be_seen(opened, browser, width):
    strips = opened("light", width).get_by_label("small-hit.qcow2 sees the change")
    canvas = browser.new_page()
    assert canvas.evaluate(COLOURED, base64.b64encode(strips.screenshot()).decode()) > 5
    canvas.close()


def test_a_name_is_shown_as_it_is(opened):
    page = opened("light")
    assert page.locator("b", has_text="name").count() == 0
    assert page.locator(".tree").get_by_text("<b>name<!--.qcow2").count() == 1


def rows(page) -> list[str]:
    """The images that are shown, by the names in their rows."""
    return [row.inner_text() for row in page.locator(".tree tbody tr:visible td:first-child").all()]


def test_the_search_shows_the_images_whose_names_have_all_words(opened):
    page = opened("light")
    everything = rows(page)
    assert len(everything) == 9
    page.keyboard.press("/")
    page.keyboard.type("HIT sma")
    playwright.expect(page.locator(".tools output")).to_have_text("1 of 9 images")
    assert rows(page) == ["small-hit.qcow2"]
    page.keyboard.press("Escape")
    assert rows(page) == everything


def test_a_search_for_a_base_shows_what_stands_on_it(opened):
    page = opened("light")
    page.locator("input").fill("huge")
    playwright.expect(page.locator(".tools output")).not_to_be_empty()
    assert rows(page) == ["huge.qcow2", "small-hit.qcow2"]


def test_a_filter_shows_the_images_in_its_states(opened):
    page = opened("light")
    page.get_by_role("button", name="torn 1", exact=True).click()
    assert rows(page) == ["b.qcow2"]
    page.get_by_role("button", name="drifted 2", exact=True).click()
    assert sorted(rows(page)) == ["b.qcow2", "base.qcow2", "huge.qcow2"]
    assert page.get_by_role("button", name="torn 1", exact=True).get_attribute("aria-pressed") == "true"


def test_a_column_sorts_up_and_down_and_then_as_the_tree_again(opened):
    page = opened("light")
    family = page.locator("details.family", has_text="deeper.qcow2")
    in_tree = rows(family)
    sizes = "rows => rows.map(row => +row.cells[3].dataset.v)"
    head = family.get_by_role("button", name="on disk", exact=True)
    head.click()
    up = family.locator("tbody tr").evaluate_all(sizes)
    assert family.locator("th[aria-sort=ascending]").count() == 1
    head.click()
    assert family.locator("tbody tr").evaluate_all(sizes) == sorted(up, reverse=True)
    assert up == sorted(up) != sorted(up, reverse=True)
    head.click()
    assert rows(family) == in_tree


def test_a_link_of_a_finding_opens_its_family(opened):
    page = opened("light")
    page.get_by_role("button", name="open all").click()
    page.get_by_role("button", name="close all").click()
    assert page.locator("details.family[open]").count() == 0
    page.locator(".kinds a", has_text="huge.qcow2").first.click()
    page.wait_for_selector("details.family[open]")
    assert page.locator("details.family[open] h3").all_inner_texts() == ["huge.qcow2"]


def test_keys_lead_from_family_to_family(opened):
    page = opened("light")
    focused = "document.activeElement.querySelector('h3')?.textContent"
    page.keyboard.press("j")
    assert page.evaluate(focused) == "base.qcow2"
    page.keyboard.press("j")
    assert page.evaluate(focused) == "huge.qcow2"
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    assert page.locator("details.family:not([open]) h3").all_inner_texts() == ["base.qcow2"]
    page.keyboard.press("n")
    assert page.evaluate(focused) == "huge.qcow2"


def test_the_page_can_be_read_without_its_script(browser, report):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(report.as_uri())
    assert page.locator(".tools").is_hidden()
    assert len(rows(page)) == 9
    page.locator("summary", has_text="notes").first.click()
    assert page.get_by_text("writable-base").count() > 1
    page.context.close()


def test_on_paper_it_is_light_and_all_that_is_wrong_is_open(opened):
    page = opened("dark")
    page.get_by_role("button", name="open all").click()
    page.get_by_role("button", name="close all").click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.family[open]").count() == 2
    assert page.locator(".tools").is_hidden()
    assert page.evaluate(f"() => ({LUMINANCE})(getComputedStyle(document.body).backgroundColor)") > 0.9
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.family[open]").count() == 0


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A page of 5,000 images: a family of thousands, with some torn among them, and very many small ones."""
    herd = tmp_path_factory.mktemp("large")
    for name, size in (("base", MIB), ("other", MIB)):
        make_base(herd / f"{name}.qcow2", noise(size))
        clone(herd / f"{name}.qcow2", herd / f"{name}-0000.qcow2")
    for number in range(1, 3000):
        shutil.copyfile(herd / "base-0000.qcow2", herd / f"base-{number:04}.qcow2")
    for number in range(12):
        write(herd / f"base-{number * 100 + 7:04}.qcow2", f"write -P 7 {number * 64}k 64k")
    for number in range(1, 100):
        shutil.copyfile(herd / "other-0000.qcow2", herd / f"other-{number:04}.qcow2")
    for number in range(475):
        write_image(herd / f"small-{number:03}.qcow2", header())
        for overlay in range(3):
            write_image(herd / f"small-{number:03}-{overlay}.qcow2", header(f"small-{number:03}.qcow2"))
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    assert main(["report", "-o", str(herd / "page.html"), str(herd)]) == 0
    return herd / "page.html"


def test_a_page_of_5000_images_is_small_and_opens_soon(browser, large):
    assert large.stat().st_size < 3 * MIB
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    began = time.monotonic()
    page.goto(large.as_uri())
    page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn)))")
    assert time.monotonic() - began < 2
    assert page.evaluate("document.documentElement.scrollHeight") < 30000
    page.close()


def test_families_are_sorted_by_what_is_chosen(browser, large):
    page = browser.new_page()
    page.goto(large.as_uri())
    noted = page.locator(".part", has_text="Noted").locator("h3")
    assert noted.first.text_content() == "small-000.qcow2"
    for order, first in (("name", "other.qcow2"), ("worst", "small-000.qcow2"), ("images", "other.qcow2")):
        page.locator("select").select_option(order)
        assert noted.first.text_content() == first
    page.close()


def test_a_dot_of_a_large_family_leads_to_its_row(browser, large):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(large.as_uri())
    crowd = page.locator(".crowd").nth(1)
    crowd.click(position={"x": 15, "y": 5})
    page.wait_for_selector("tr.found:visible")
    assert page.locator("tr.found td").all_inner_texts()[:2] == ["base-0107.qcow2", "torn"]
    assert page.locator("tr.found").bounding_box()["y"] < 900
    page.close()


def test_a_search_among_5000_images_opens_those_few_that_it_finds(browser, large):
    page = browser.new_page()
    page.goto(large.as_uri())
    page.locator("input").fill("base-0107")
    playwright.expect(page.locator(".tools output")).to_have_text("1 of 5,002 images", timeout=SLOW_MS)
    assert rows(page) == ["base-0107.qcow2"]
    page.locator("input").fill("")
    playwright.expect(page.locator(".tools output")).to_have_text("", timeout=SLOW_MS)
    assert page.locator(".images[open]").count() == 0
    page.close()


def test_a_live_page_shows_what_changes_and_keeps_what_the_reader_has_opened(browser, tmp_path):
    make_base(tmp_path / "base.qcow2", noise(MIB))
    clone(tmp_path / "base.qcow2", tmp_path / "o.qcow2")
    make_base(tmp_path / "lonely.qcow2", noise(65536))
    with served(tmp_path) as (url, _):
        page = browser.new_page()
        page.goto(url)
        playwright.expect(page.locator(".live")).to_contain_text("live: looked at last at")
        page.locator("summary", has_text="images that stand alone").click()
        page.locator("input").fill("base")
        playwright.expect(page.locator(".tools output")).not_to_be_empty()
        write(tmp_path / "base.qcow2", "write -P 1 512k 64k")
        page.get_by_label("where base.qcow2 changed").wait_for(timeout=60000)
        assert page.locator("input").input_value() == "base"
        assert sorted(rows(page)) == ["base.qcow2", "o.qcow2"]
        page.keyboard.press("Escape")
        assert page.locator("details.family:not([open]) h3").all_inner_texts() == ["images that stand alone"]
    playwright.expect(page.locator(".live")).to_contain_text("no longer live")
    page.close()
