"""The report in a real browser: `make browser`. Without Playwright and a Chromium, as in CI, these tests are skipped."""

from __future__ import annotations

import base64
import shutil

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.overlays.clone import clone
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write

playwright = pytest.importorskip("playwright.sync_api", reason="make browser installs Playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.qemu("qemu-io"), pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

MIB = 1 << 20


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


def test_each_branch_of_the_tree_meets_the_one_below(opened):
    boxes = opened("light").evaluate(
        "() => [...document.querySelectorAll('.branch')].map(e => e.getBoundingClientRect()).map(b => [b.left, b.top, b.bottom])"
    )
    assert len(boxes) == 9
    assert {left for left, _, _ in boxes} == {boxes[0][0]}
    assert [above[2] for above in boxes[:-1]] == pytest.approx([below[1] for below in boxes[1:]], abs=0.5)


def test_what_changed_is_in_one_column_for_the_base_and_its_dependents(opened):
    columns = opened("light").evaluate(
        "() => [...document.querySelectorAll('.strip')].map(e => e.getBoundingClientRect()).map(b => [b.left, b.right])"
    )
    assert len(columns) == 9
    assert len({tuple(column) for column in columns}) == 2


# The pixels of a picture (PNG, in base64) that are far more red than green.
RED = """async (png) => {
    const picture = new Image();
    picture.src = 'data:image/png;base64,' + png;
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.width, picture.height).getContext('2d');
    canvas.drawImage(picture, 0, 0);
    const bytes = canvas.getImageData(0, 0, picture.width, picture.height).data;
    let red = 0;
    for (let i = 0; i < bytes.length; i += 4) red += bytes[i] - bytes[i + 1] > 60;
    return red;
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_the_smallest_change_of_a_large_disk_can_be_seen(opened, browser, width):
    strips = opened("light", width).get_by_label("small-hit.qcow2 sees the change")
    canvas = browser.new_page()
    assert canvas.evaluate(RED, base64.b64encode(strips.screenshot()).decode()) > 5
    canvas.close()


def test_a_name_is_shown_as_it_is(opened):
    page = opened("light")
    assert page.locator("b", has_text="name").count() == 0
    assert page.get_by_text("<b>name<!--.qcow2").count() > 0
