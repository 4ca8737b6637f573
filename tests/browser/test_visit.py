"""More of what visitors and product managers do on the page: keyboard, strict form, cancelling, profiles,
tables, leaving.
"""

import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from known_device import small_engine
from PIL import Image
from test_page import PORTRAIT, ages, open_settings, open_tab, set_years, upload, visit, wait_for_result


@pytest.fixture
def page(browser, url):
    """What differs on a phone is in test_page: here each visit is made once."""
    yield from visit(browser, url, 1280, 900)


@pytest.fixture
def opened(page):
    upload(page, PORTRAIT)
    return page


def slide(page, name, value):
    """A slider's number box, as somebody types into it."""
    box = page.locator(f"#{name} input[type=number]")
    box.fill(str(value))
    box.press("Enter")
    box.blur()


def settled(page):
    """Until the edit at rest is there: the download has been ready for two seconds on end."""
    page.evaluate("window.readySince = 0")
    page.wait_for_function(
        """() => {
          const ready = !document.querySelector('#download').disabled;
          window.readySince = ready ? window.readySince || Date.now() : 0;
          return ready && Date.now() - window.readySince > 2000;
        }""",
        timeout=240_000,
    )


def test_by_keyboard_alone(opened):
    page, first = opened, ages(opened)
    page.locator("#years input[type=range]").focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "t => document.querySelector('#years .info-text').innerText !== t", arg=first, timeout=240_000
    )
    page.wait_for_selector("#download:not([disabled])", timeout=240_000)
    assert page.locator("#years input[type=range]").input_value() == "8"
    settled(page)
    seen = set()
    for _ in range(180):  # everything can be reached with the Tab key
        if {"hold", "quality", "download"} <= seen:
            break
        page.wait_for_selector(
            "#download:not([disabled])", timeout=240_000
        )  # each key's picture makes it wait again
        page.keyboard.press("Tab")
        seen.add(page.evaluate("(document.activeElement.closest('[id]') || {}).id || ''"))
        seen |= set(
            page.evaluate(
                "(() => { const ids = []; for (let e = document.activeElement; e; e = e.parentElement) if (e.id) ids.push(e.id);"  # noqa: E501
                " return ids; })()"
            )
        )
    assert {"hold", "quality", "download"} <= seen
    page.locator("#hold").focus()
    page.keyboard.down(" ")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#result .before')).visibility") == "visible"
    )
    page.keyboard.up(" ")
    assert page.evaluate("getComputedStyle(document.querySelector('#result .before')).visibility") == "hidden"


def test_a_screen_reader_hears_what_everything_is(opened):
    page = opened
    nameless = page.evaluate("""[...document.querySelectorAll('button, input, select, textarea, img')].filter(e => e.offsetParent !== null && e.checkVisibility({visibilityProperty: true}))
        .filter(e => !(e.getAttribute('aria-label') || e.title || e.innerText || e.alt || [...(e.labels || [])].map(l => l.innerText).join('')
                       || e.closest('[aria-label]')?.getAttribute('aria-label'))).map(e => e.outerHTML.slice(0, 150))""")  # noqa: E501
    assert not nameless, nameless
    slider = page.locator("#years input[type=range]")
    assert "Looks about" in slider.get_attribute("aria-valuetext")
    assert page.locator("#line").get_attribute("aria-live") == "polite"


def test_at_rest_the_best_picture_whatever_the_budget(opened):
    page = opened
    open_settings(page)
    slide(page, "budget", 10)
    r, c = small_engine().weights.order[0]
    page.wait_for_function(
        "t => document.querySelector('#line').innerText.includes(t)",
        arg=f"{r} px, c = {c:g}",
        timeout=240_000,
    )


def test_fast_moves_end_on_the_last_one(opened):
    """Twenty moves in a second, then let go: no older answer replaces the newest."""
    page = opened
    slider = page.locator("#years input[type=range]")
    for v in [*range(40, -31, -4), 35]:
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", v)
        page.wait_for_timeout(40)
    slider.evaluate("e => e.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}))")

    def shown():
        return (
            page.locator("#result img").last.get_attribute("src"),
            ages(page),
            page.locator("#download").is_enabled(),
        )

    last = shown()
    for _ in range(30):  # until nothing moves any more
        page.wait_for_timeout(2000)
        if shown() == last and last[2]:
            break
        last = shown()
    before, after = (int(ages(page).split(word)[1].split()[0].rstrip(".")) for word in ("about", "now,"))
    assert slider.input_value() == "35" and after > before + 8


def test_the_divider_can_be_dragged(opened):
    page = opened
    page.locator("#mode-split").click()

    def cut():
        return page.evaluate("getComputedStyle(document.querySelector('#result .before')).clipPath")

    box, before = page.locator("#result .frame").bounding_box(), cut()
    handle = page.locator("#result .divider").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=6)
    page.mouse.up()
    page.wait_for_function(
        "v => getComputedStyle(document.querySelector('#result .before')).clipPath !== v",
        arg=before,
        timeout=10_000,
    )


def test_the_strict_form_is_under_advanced(opened):
    page = opened
    open_settings(page)
    page.locator("#strict input").check()
    page.wait_for_function(
        "() => document.querySelector('#result img').src.includes('face-0')", timeout=240_000
    )
    assert page.locator("#mark input").is_checked()


def test_a_journey_can_be_cancelled_and_the_page_goes_on(opened):
    page = opened
    open_settings(page)
    page.locator("#journey button").first.click()
    page.locator("#make").click()
    page.wait_for_selector("#cancel:not([disabled])", timeout=240_000)
    page.locator("#cancel").click()
    page.wait_for_timeout(2500)
    assert page.locator("#save-mp4").is_disabled() and not page.locator("#film").is_visible()
    first = ages(page)
    page.locator("#quality").click()
    set_years(page, -15)
    page.wait_for_function(
        "t => document.querySelector('#years .info-text').innerText !== t", arg=first, timeout=240_000
    )


def download(page, selector, to):
    with page.expect_download(timeout=240_000) as got:
        page.locator(selector).first.click()
    got.value.save_as(to)
    return to.read_bytes()


def phone(profile, name="A phone of 2024"):
    """A made-up slow device's profile in the format that the Device tab exports, with this program's
    sub-models.
    """
    data = json.loads(profile)
    data["device"] |= {"processor": name, "cores": 8}
    data["times"] = [
        t | {"runs_ms": [v * 3 for v in t["runs_ms"]], "p50_ms": t["p50_ms"] * 3, "p90_ms": t["p90_ms"] * 3}
        for t in data["times"]
    ]
    return json.dumps(data)


def take_in(page, path):
    with page.expect_file_chooser() as chooser:
        page.locator("#import").click()
    chooser.value.set_files(str(path))


def test_another_devices_profile_answers_what_if(opened, tmp_path, app_folder):
    page = opened
    open_tab(page, 2, "#runs img")
    page.wait_for_selector("#export:not([disabled])", timeout=240_000)
    mine = download(page, "#export", tmp_path / "mine.json")
    assert {"schema", "device", "power", "fit", "times"} <= json.loads(mine).keys()
    (tmp_path / "phone.json").write_text(phone(mine))
    (tmp_path / "damaged.json").write_text("{")
    take_in(page, tmp_path / "damaged.json")
    page.wait_for_selector("text=is damaged", timeout=240_000)
    take_in(page, tmp_path / "phone.json")
    page.wait_for_selector("text=Imported A phone of 2024", timeout=240_000)
    try:
        open_tab(page, 1, "#grid img")
        page.wait_for_selector("#compare-device input", timeout=240_000)
        page.locator("#compare-device input").click()
        page.get_by_role("option").nth(1).click()
        page.wait_for_function(
            "() => document.querySelector('#whatif').innerText.includes('A phone of 2024')", timeout=240_000
        )
    finally:
        for kept in (app_folder / "profiles").glob("*phone*"):
            kept.unlink()


def test_the_budget_repaints_and_everything_can_be_saved(opened, tmp_path):
    page = opened
    open_tab(page, 1, "#grid img")
    starred = "(document.querySelector('#table').textContent.match(/★ \\d+:[\\d.]+/) || [])[0]"
    page.wait_for_function(f"() => {starred} && document.querySelector('#plot img')", timeout=240_000)
    best = page.evaluate(starred)
    grid, plot = (page.locator(f"{k} img").first.get_attribute("src") for k in ("#grid", "#plot"))
    slide(page, "compare-budget", 12)
    page.wait_for_function(f"v => {starred} !== v", arg=best, timeout=240_000)
    assert (
        page.locator("#grid img").first.get_attribute("src") != grid
        and page.locator("#plot img").first.get_attribute("src") != plot
    )
    assert download(page, "#save-csv", tmp_path / "a.csv").startswith(b"r,c,macs")
    table = json.loads(download(page, "#save-json", tmp_path / "a.json"))
    assert table["budget_ms"] == 12 and sum(row["chosen"] for row in table["submodels"]) == 1
    download(page, "#plot a[download], #plot button[aria-label*=ownload]", tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size[0] > 800


def test_timing_again_shows_its_progress(opened):
    page = opened
    open_tab(page, 2, "#runs img")
    before = page.locator("#runs img").get_attribute("src")
    page.locator("#tune").click()
    page.wait_for_selector(
        "#tried .progress-level, #tried .progress-text, #tried .eta-bar, #tried .progress-bar",
        timeout=240_000,
        state="attached",
    )
    page.wait_for_function("v => document.querySelector('#runs img').src !== v", arg=before, timeout=300_000)
    assert "chosen" in page.locator("#tried").inner_text()


@pytest.mark.parametrize("theme,dark", [("light", False), ("dark", True)])
def test_the_page_follows_the_systems_theme(browser, url, theme, dark):
    context = browser.new_context(color_scheme=theme)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=240_000)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(v) for v in colour.strip("rgba()").split(",")[:3]) < 200) == dark
    context.close()


def test_too_many_pixels_get_a_plain_message(page, tmp_path):
    Image.new("L", (9000, 6000)).save(tmp_path / "huge.png")
    page.set_input_files("#photo input[type=file]", str(tmp_path / "huge.png"))
    page.wait_for_selector("text=shrink it below 50 megapixels", timeout=240_000)


def gone(files, seconds=20 + 10):
    """Whether nothing is left within the time that is promised, with something for a busy machine."""
    end = time.monotonic() + seconds
    while files() and time.monotonic() < end:
        time.sleep(0.2)
    return not files()


@pytest.fixture
def private(tmp_path):
    """A photo of the test's own, so that no other test's visit holds it."""
    rng = np.random.default_rng(time.time_ns())
    photo = np.array(Image.open(PORTRAIT))
    photo[:4, :4] = rng.integers(0, 255, (4, 4, 3))
    Image.fromarray(photo).save(tmp_path / "private-photo.jpg")
    return tmp_path / "private-photo.jpg"


@pytest.mark.parametrize("doing", ["nothing", "opening", "a journey", "comparing"])
def test_closing_the_page_deletes_the_photo_and_its_edits(browser, url, app_folder, private, doing):
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=240_000)
    wait_for_result(page)  # the example
    if doing == "opening":
        page.set_input_files("#photo input[type=file]", str(private))
    else:
        upload(page, private)
    content, cache = private.read_bytes(), app_folder / "cache"
    folder = None
    if doing != "opening":
        wait_for_result(page)
        page.wait_for_function(
            "() => document.querySelector('#result .before').src.includes('before')", timeout=240_000
        )
        folder = Path(page.locator("#result img").first.get_attribute("src").split("file=")[1]).parents[1]
    if doing == "a journey":
        open_settings(page)
        page.locator("#journey button").first.click()
        page.locator("#make").click()
        page.wait_for_selector("#cancel:not([disabled])", timeout=240_000)
    elif doing == "comparing":
        page.get_by_role("tab").nth(1).click()
        page.wait_for_timeout(700)
    elif doing == "opening":
        wait_until(lambda: [p for p in cache.rglob("*") if p.is_file() and _holds(p, content)])

    def left():
        try:
            same = [p for p in cache.rglob("*") if p.is_file() and _holds(p, content)]
            return same + (list(folder.rglob("*")) if folder else [])
        except FileNotFoundError:  # a folder went while it was looked through: look again
            return [cache]

    assert left()
    assert not list(cache.rglob("*private*")) and (folder is None or len(left()) >= 3)
    page.close(run_before_unload=True)
    context.close()
    assert gone(left), left()


def wait_until(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def _holds(path, content):
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:  # deleted meanwhile
        return False


def test_an_upload_that_breaks_off_leaves_nothing(url, app_folder):
    name, port = url.removeprefix("http://").split(":")
    marker = b"a part of a private photo " * 4000
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {name}:{port}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    )
    for _ in range(5):
        with socket.create_connection((name, int(port)), 20) as connection:
            connection.sendall(head.encode() + marker * 20)

    def left():
        parts = []
        for path in (app_folder / "cache").rglob("*"):
            try:
                if path.is_file() and marker[:100] in path.read_bytes():
                    parts.append(path)
            except OSError:
                continue
        return parts

    assert gone(left), left()
