"""One screen at four sizes: no scrolling between opening and saving, nothing that jumps, a slider that moves
with the finger, and an example that is there at once.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from test_page import wait_for_result

SIZES = {"laptop": (1366, 768), "desk": (1920, 1080), "phone": (390, 844), "phone on its side": (844, 390)}

LEAST_PICTURES = 20
"""A second, while somebody drags."""

MOST_SHIFT = 0.15
"""Cumulative layout shift, from the page's first moment on: 0.05 to 0.07 where the machine is quiet, and more
where it is so busy that parts of the page come one by one.
"""

WATCH = """
window.shift = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""

READY = """() => {
  const letter = document.querySelector("#keys [data-told]");
  return letter && JSON.parse(decodeURIComponent(letter.dataset.told)).ready;
}"""

# drags the slider from one end to the other and back, a step each frame, and counts the pictures that differ
DRAG = """async () => {
  const range = document.querySelector("#years input[type=range]");
  const canvas = document.querySelector("#result canvas");
  const small = document.createElement("canvas");
  small.width = small.height = 24;
  const pen = small.getContext("2d", {willReadFrequently: true});
  const seen = new Set();
  const low = Number(range.min), high = Number(range.max);
  const start = performance.now();
  let now = start;
  while (now - start < 2000) {
    const share = (now - start) / 2000;
    range.value = low + (high - low) * (1 - Math.abs(1 - 2 * share));
    range.dispatchEvent(new Event("input", {bubbles: true}));
    now = await new Promise(requestAnimationFrame);
    pen.drawImage(canvas, 0, 0, 24, 24);
    seen.add(pen.getImageData(0, 0, 24, 24).data.join());
  }
  return seen.size / ((now - start) / 1000);
}"""

IN_SIGHT = """selector => {
  const box = document.querySelector(selector).getBoundingClientRect();
  const middle = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return box.width >= 44 && box.height >= 40 && box.top >= 0 && box.left >= 0
    && box.bottom <= innerHeight && box.right <= innerWidth
    && Boolean(middle?.closest(selector));
}"""


@pytest.fixture(params=SIZES.values(), ids=SIZES.keys())
def page(request: pytest.FixtureRequest, browser: Browser, url: str) -> Iterator[Page]:
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(url, timeout=240_000)
    yield page
    context.close()


def overflow(page: Page) -> list[int]:
    """Pixels by which the page is higher and wider than the screen."""
    return page.evaluate(
        "() => { const page = document.documentElement;"
        " return [page.scrollHeight - innerHeight, page.scrollWidth - innerWidth]; }"
    )


def test_from_opening_to_saving_without_scrolling(page: Page) -> None:
    wait_for_result(page)  # an example, though nobody clicked anything
    assert page.locator("#result .after").evaluate("image => image.naturalWidth") > 400
    page.wait_for_function(READY, timeout=240_000)
    for wanted in ("#result", "#years", "#download", "#mode-split", "#quality", "#photo button"):
        assert page.evaluate(IN_SIGHT, wanted), wanted
    picture = page.locator("#result .frame").bounding_box()
    assert picture is not None
    width, height = page.evaluate("[innerWidth, innerHeight]")
    assert picture["height"] >= 0.5 * height or picture["width"] >= 0.9 * width
    assert page.evaluate(DRAG) >= LEAST_PICTURES
    page.wait_for_function(
        "() => document.querySelector('#result .after').classList.contains('seen')", timeout=240_000
    )
    with page.expect_download(timeout=240_000) as saved:
        page.click("#download")
    assert saved.value.suggested_filename.endswith(".png")
    assert max(overflow(page)) <= 0 and page.evaluate("scrollY") == 0
    assert page.evaluate("window.shift") < MOST_SHIFT


def test_the_faces_pictures_stand_on_the_slider(browser: Browser, url: str) -> None:
    """Each cell shows another age, and a picture half-way between two keys is faded from both."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.goto(url, timeout=240_000)
    page.wait_for_function(READY, timeout=240_000)
    cells = """() => {
      const film = document.querySelector(".film");
      const pen = film.getContext("2d");
      const width = Math.floor(film.width / 8);
      const cell = k => pen.getImageData(k * width, 0, width, film.height).data.join();
      return Array.from({length: 8}, (_, k) => cell(k));
    }"""
    page.wait_for_function(f"() => new Set(({cells})()).size === 8", timeout=240_000)
    bubble = page.locator(".ae-strip .bubble")
    page.locator("#years input[type=range]").focus()
    ages = []
    for key in ("Home", "End"):
        page.keyboard.press(key)
        stands = "t => Number(document.querySelector('#result').dataset.shown) === t"
        page.wait_for_function(stands, arg=-30 if key == "Home" else 40, timeout=240_000)
        ages.append(int(bubble.inner_text().split()[0]))
    assert ages[0] + 10 < ages[1]
    page.context.close()


def test_a_page_that_is_loaded_again_keeps_photo_and_age(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.goto(url, timeout=240_000)
    wait_for_result(page)
    page.locator("#examples button").nth(4).click()
    token = "sessionStorage.getItem('agedit')"
    before = page.evaluate(token)
    page.wait_for_function(f"v => {token} !== v", arg=before, timeout=240_000)
    page.locator("#years input[type=range]").focus()
    page.keyboard.press("Home")
    page.wait_for_function(
        "() => JSON.parse(decodeURIComponent("
        "document.querySelector('#board [data-told]').dataset.told)).years === -30",
        timeout=240_000,
    )
    mine = page.evaluate(token)
    page.reload()
    wait_for_result(page)
    assert page.evaluate(token) == mine
    page.wait_for_function(
        "() => document.querySelector('#years input[type=range]').value === '-30'", timeout=240_000
    )
    page.context.close()
