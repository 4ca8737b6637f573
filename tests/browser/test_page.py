"""The page as a visitor meets it, in headless Chromium; the network is cut off all the while."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agedit import load_photo, save_photo
from agedit.weights import Weights

ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "assets/portraits/london_021.jpg"


both = pytest.mark.parametrize("page", [(1280, 900), (390, 844)], ids=["desktop", "phone"], indirect=True)


@pytest.fixture
def page(request, browser, url):
    yield from visit(browser, url, *getattr(request, "param", (1280, 900)))


def visit(browser, url, width, height):
    """The open page, as a generator; nothing but the app may have been asked for when it ends."""
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    outside = []
    context.on(
        "request", lambda r: outside.append(r.url) if not r.url.startswith((url, "data:", "blob:")) else None
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
    yield page
    context.close()
    assert not outside, outside


def line(page):
    return page.locator("#line").inner_text()


def wait_for_result(page):
    page.wait_for_selector("#result img", timeout=60_000)
    page.wait_for_function(
        "document.querySelector('#line').innerText.includes('Identity kept')", timeout=60_000
    )


def ages(page):
    """The sentence on the slider: which age the person looks, and looks in the edit."""
    return page.locator("#years .info-text").inner_text()


def set_years(page, value):
    """Drag the slider's thumb there, as a visitor does."""
    slider = page.locator("#years input[type=range]")
    page.wait_for_timeout(1200)  # on a phone the page first scrolls to the result
    slider.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = slider.bounding_box()
    low, high = float(slider.get_attribute("min")), float(slider.get_attribute("max"))
    now = float(slider.input_value())
    at = lambda v: (
        box["x"] + 8 + (box["width"] - 16) * (v - low) / (high - low),
        box["y"] + box["height"] / 2,
    )
    page.mouse.move(*at(now))
    page.mouse.down()
    for v in np.linspace(now, value, 8):
        page.mouse.move(*at(v))
        page.wait_for_timeout(60)
    page.mouse.up()
    return float(slider.input_value())


@both
def test_from_upload_to_download(page, tmp_path):
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    wait_for_result(page)
    first = ages(page)
    assert first.startswith("Looks about")
    sources = lambda: page.eval_on_selector_all("#result img", "v => v.map(i => i.src)")
    before = sources()
    set_years(page, 40)
    page.wait_for_function(
        "t => document.querySelector('#years .info-text').innerText !== t", arg=first, timeout=60_000
    )
    assert sources() != before
    page.wait_for_selector("#download:not([disabled])", timeout=60_000)
    page.wait_for_timeout(1500)
    with page.expect_download(timeout=60_000) as got:
        page.click("#download")
    got.value.save_as(tmp_path / "out.png")
    out, photo = load_photo(tmp_path / "out.png"), load_photo(PORTRAIT)
    assert out.shape == photo.shape and not np.array_equal(out, photo)
    with Image.open(tmp_path / "out.png") as file:
        assert (
            "trainedAlgorithmicMedia".lower() in file.info["XML:com.adobe.xmp"].lower() and not file.getexif()
        )
    assert "px" in line(page) and "ms" in line(page)


def test_an_example_is_one_click_away(page):
    page.locator("#examples button img, #examples button").first.click()
    wait_for_result(page)


def test_a_bad_file_gets_a_plain_message_and_the_page_goes_on(page, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(PORTRAIT.read_bytes()[:9000])
    page.set_input_files("#photo input[type=file]", str(tmp_path / "broken.jpg"))
    page.wait_for_selector("text=damaged or incomplete", timeout=60_000)
    assert "Traceback" not in page.content()


def open_tab(page, number, waits_for):
    page.get_by_role("tab").nth(number).click()
    page.wait_for_selector(waits_for, timeout=60_000)
    page.wait_for_timeout(500)


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


@both
def test_every_tab_and_nothing_wider_than_the_page(page):
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    wait_for_result(page)
    assert fits(page)
    open_tab(page, 1, "#grid img")
    page.wait_for_function("document.querySelector('#whatif').innerText.includes('ms')", timeout=60_000)
    assert page.locator("#grid img").count() == len(Weights().candidates) and fits(page)
    page.locator("#grid button").nth(1).click()
    page.wait_for_selector("#large img", timeout=60_000)
    page.wait_for_selector("#difference img", timeout=60_000)
    open_tab(page, 2, "#runs img")
    assert "cores" in page.locator("#device-line").inner_text() and fits(page)
    open_tab(page, 3, "#method svg")
    assert all(
        w in page.locator("#about-text").inner_text() for w in ("Fair use", "Privacy", "parents", "identify")
    ) and fits(page)
    page.get_by_text("Model card").first.click()
    page.wait_for_selector("text=Files and licences", timeout=60_000)
    assert "CC BY 4.0" in page.content() and fits(page)


def test_holding_the_button_shows_the_photo(page):
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    wait_for_result(page)
    after = "getComputedStyle(document.querySelector('#result img.fixed')).visibility"
    page.wait_for_timeout(1200)
    page.locator("#hold").scroll_into_view_if_needed()
    page.locator("#hold").hover()
    assert page.evaluate(after) == "visible"
    page.mouse.down()
    assert page.evaluate(after) == "hidden"
    page.mouse.up()
    assert page.evaluate(after) == "visible"


def test_side_by_side_and_the_face_alone(page):
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    wait_for_result(page)
    page.wait_for_timeout(1200)
    page.locator("#view input").nth(2).check()
    page.wait_for_selector("#beside img", timeout=60_000)
    assert not page.locator("#result").is_visible()
    page.locator("#view input").nth(1).check()
    page.wait_for_selector("#result img", timeout=60_000)
    page.wait_for_function("document.querySelector('#result img').src.includes('face-0')", timeout=60_000)


@both
def test_tapping_a_face_picks_it_and_each_keeps_its_own_age(page, tmp_path):
    two = [load_photo(ROOT / f"assets/portraits/london_{k}.jpg")[:1100, :1000] for k in ("021", "031")]
    save_photo(tmp_path / "two.jpg", np.hstack(two))
    page.set_input_files("#photo input[type=file]", str(tmp_path / "two.jpg"))
    page.wait_for_selector("#who input", timeout=60_000)
    page.wait_for_timeout(2500)
    photo = page.locator("#photo img").first
    picked = lambda: page.eval_on_selector_all("#who input", "v => v.findIndex(i => i.checked)")
    assert page.locator("#who input").count() == 3 and picked() == 0  # everyone
    seen = []
    for share in (0.25, 0.75):
        photo.scroll_into_view_if_needed()
        box = photo.bounding_box()
        page.mouse.click(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        page.wait_for_function(
            "s => { const k = [...document.querySelectorAll('#who input')].findIndex(i => i.checked);"
            " return k > 0 && !s.includes(k); }",
            arg=seen,
            timeout=60_000,
        )
        seen.append(picked())
    set_years(page, -20)
    page.wait_for_function("document.querySelector('#years input[type=range]').value < 0", timeout=60_000)
    page.wait_for_timeout(2500)
    page.locator("#who input").nth(seen[0]).check()
    page.wait_for_function("document.querySelector('#years input[type=range]').value == 20", timeout=60_000)


def test_the_journey_gives_three_files(page, tmp_path):
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    wait_for_result(page)
    page.wait_for_timeout(1200)
    page.locator("#journey button").first.click()
    page.locator("#make").click()
    page.wait_for_selector("#film img", timeout=120_000)
    for kind, start in (("strip", b"\x89PNG"), ("gif", b"GIF8"), ("mp4", b"")):
        page.wait_for_selector(f"#save-{kind}:not([disabled])", timeout=60_000)
        with page.expect_download(timeout=60_000) as got:
            page.click(f"#save-{kind}")
        got.value.save_as(tmp_path / kind)
        data = (tmp_path / kind).read_bytes()
        assert data.startswith(start) and len(data) > 5000
    assert (tmp_path / "mp4").read_bytes()[4:8] == b"ftyp"


def test_chinese_browsers_get_chinese(browser, url, tmp_path):
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
    page.wait_for_selector("text=照片不会离开这台设备", timeout=60_000)
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    page.wait_for_function(
        "document.querySelector('#years').innerText.includes('现在看起来')", timeout=60_000
    )
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    page.locator("#photo button[aria-label]").first.click()  # clears the photo
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
    page.set_input_files("#photo input[type=file]", str(tmp_path / "grey.png"))
    page.wait_for_selector("text=没有找到人脸", timeout=60_000)
    open_tab(page, 2, "#runs img")
    assert "线程" in page.locator("#device-line").inner_text()
    page.wait_for_function(
        "/符合|选中|档案/.test(document.querySelector('#tried').innerText)", timeout=60_000
    )
    open_tab(page, 3, "text=按等待预算")
    context.close()


def test_importing_the_app_starts_nothing():
    code = "import threading, app; assert threading.active_count() < 3; b = app.build(); assert b is not None"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
