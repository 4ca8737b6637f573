"""The page as a visitor meets it, in headless Chromium; the network is cut off all the while."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import CHROMIUM, FLAGS
from known_device import small_engine
from PIL import Image

from agedit import load_photo, save_photo

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
    page.goto(url, timeout=240_000)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=240_000)
    wait_for_result(page)  # the example
    yield page
    context.close()
    assert not outside, outside


def line(page):
    return page.locator("#line").inner_text()


def wait_for_result(page):
    page.wait_for_selector("#result img", state="attached", timeout=240_000)
    page.wait_for_function(
        "() => document.querySelector('#line').innerText.includes('Identity kept')", timeout=240_000
    )


def upload(page, path):
    """Choose a photo, and wait until it is what the page shows."""
    before = page.evaluate("sessionStorage.getItem('agedit')")
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_function(
        "v => sessionStorage.getItem('agedit') && sessionStorage.getItem('agedit') !== v",
        arg=before,
        timeout=240_000,
    )
    wait_for_result(page)


def open_settings(page):
    if not page.locator("#settings").is_visible():
        page.locator("#quality").click()


def ages(page):
    """The sentence on the slider: which age the person looks, and looks in the edit."""
    return page.locator("#years .info-text").inner_text()


def set_years(page, value):
    """Drag the slider's thumb there, as a visitor does."""
    slider = page.locator("#years input[type=range]")
    box = slider.bounding_box()
    low, high = float(slider.get_attribute("min")), float(slider.get_attribute("max"))
    now = float(slider.input_value())
    cell = box["width"] / 8  # as wide as the thumb: one of the face's pictures

    def at(v):
        return (
            box["x"] + cell / 2 + (box["width"] - cell) * (v - low) / (high - low),
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
    upload(page, PORTRAIT)
    first = ages(page)
    assert first.startswith("Looks about")

    def sources():
        return page.eval_on_selector_all("#result img", "v => v.map(i => i.src)")

    before = sources()
    set_years(page, 40)
    page.wait_for_function(
        "t => document.querySelector('#years .info-text').innerText !== t", arg=first, timeout=240_000
    )
    assert sources() != before
    page.wait_for_selector("#download:not([disabled])", timeout=240_000)
    page.wait_for_timeout(1500)
    for button, ending in (("#download", "png"), ("#download-jpeg", "jpg")):
        with page.expect_download(timeout=240_000) as got:
            page.click(button)
        assert got.value.suggested_filename == f"{PORTRAIT.stem}_+40_years.{ending}"
        got.value.save_as(tmp_path / f"out.{ending}")
    with Image.open(tmp_path / "out.jpg") as saved, Image.open(PORTRAIT) as photo:
        assert saved.quantization == photo.quantization and not saved.getexif()
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
    page.wait_for_selector("text=damaged or incomplete", timeout=240_000)
    assert "Traceback" not in page.content()


def test_a_photo_that_cannot_be_used_leaves_no_old_person_behind(page, tmp_path):
    upload(page, PORTRAIT)
    (tmp_path / "broken.jpg").write_bytes(PORTRAIT.read_bytes()[:9000])
    page.set_input_files("#photo input[type=file]", str(tmp_path / "broken.jpg"))
    page.wait_for_selector("text=broken.jpg is damaged", timeout=240_000)
    page.wait_for_selector("#result img", state="detached", timeout=240_000)
    assert "Identity" not in line(page) and page.locator("#result .empty").is_visible()
    assert page.evaluate("sessionStorage.getItem('agedit')") is None
    page.locator("#undo").click()  # and the photo before is one click away
    wait_for_result(page)


@pytest.mark.parametrize("ending", ["tiff", "heic"])
def test_a_photo_that_browsers_cannot_draw_gets_a_preview(page, tmp_path, ending):
    photo = ROOT / "tests/data/phone.heic"
    if ending == "tiff":
        photo = tmp_path / "me.tiff"
        with Image.open(PORTRAIT) as portrait:
            portrait.save(photo)
    upload(page, photo)
    page.wait_for_function("() => document.querySelector('#result .before').naturalWidth", timeout=240_000)


PASTE = """data => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), pasted = new DataTransfer();
  pasted.items.add(new File([bytes], 'image.png', {type: 'image/png'}));
  document.activeElement.dispatchEvent(
    new ClipboardEvent('paste', {clipboardData: pasted, bubbles: true, cancelable: true}));
}"""


def test_a_photo_can_be_pasted_wherever_one_is_on_the_page(page):
    for portrait in (PORTRAIT, PORTRAIT.with_name("london_031.jpg")):  # also where a photo is shown already
        before = page.eval_on_selector_all("#result .before", "v => v.map(i => i.src)")
        page.evaluate(PASTE, base64.b64encode(portrait.read_bytes()).decode())
        page.wait_for_function(
            "v => [...document.querySelectorAll('#result .before')].some(i => i.src.includes('before') && !v.includes(i.src))",  # noqa: E501
            arg=before,
            timeout=240_000,
        )
    wait_for_result(page)


def write_film(path, picture):
    """A film that a browser takes for what its camera sees, as YUV: one still. picture: RGB uint8."""
    height, width = picture.shape[:2]
    frame = b"FRAME\n" + cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes()
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420\n".encode() + 3 * frame)


def test_the_camera_takes_a_photo_that_is_not_mirrored_and_is_edited(url, tmp_path):
    """Under the page's own policy, in which nothing that it needs is forbidden."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with Image.open(PORTRAIT) as portrait:
        portrait.thumbnail((480, 480))
        scene = Image.new("RGB", (640, 480), "grey")
        scene.paste(portrait, (0, 0))  # on the left
    write_film(tmp_path / "scene.y4m", np.asarray(scene))
    script = """
from playwright.sync_api import sync_playwright
import json, sys, urllib.request
with sync_playwright() as p:
    url, chromium, film, *flags = sys.argv[1:]
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags += [*fake, f"--use-file-for-fake-video-capture={film}"]
    browser = p.chromium.launch(executable_path=chromium, args=flags)
    page = browser.new_context(permissions=["camera"]).new_page()
    page.add_init_script("window.violations = []; document.addEventListener("
        "'securitypolicyviolation', e => window.violations.push(e.violatedDirective))")
    page.goto(url, timeout=240_000)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=240_000)
    page.wait_for_selector("#camera", timeout=240_000)
    identity = "() => document.querySelector('#line').innerText.includes('Identity kept')"
    page.wait_for_function(identity, timeout=240_000)  # the example
    shown = "sessionStorage.getItem('agedit')"
    example = page.evaluate(shown)
    page.locator("#camera").click()
    page.wait_for_selector("#result video", timeout=60_000)
    video = page.locator("#result video")
    style = [video.get_attribute("class") or "", video.evaluate("v => getComputedStyle(v).transform")]
    page.wait_for_function("() => document.querySelector('#result video')?.videoWidth > 0", timeout=60_000)
    page.locator("#result .shoot").click(timeout=60_000)
    page.wait_for_function(f"v => {shown} && {shown} !== v", arg=example, timeout=240_000)
    page.wait_for_function(identity, timeout=240_000)
    source = page.locator("#result .before").evaluate("image => image.src")
    photo = list(urllib.request.urlopen(source).read())
    print(json.dumps({"style": style, "photo": photo, "violations": page.evaluate("window.violations")}))
    browser.close()
"""
    # a browser of its own: a camera is a flag at its start
    made = subprocess.run(
        [sys.executable, "-c", script, url, CHROMIUM, str(tmp_path / "scene.y4m"), *FLAGS],
        check=False,
        capture_output=True,
        text=True,
        timeout=420,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    told = json.loads(made.stdout)
    assert "flip" not in str(told["style"][0]) and told["style"][1] == "none"
    assert told["violations"] == []
    photo = load_photo(bytes(told["photo"])).astype(float)
    height, width = photo.shape[:2]
    seen = np.asarray(scene.resize((width, height)), float)
    assert np.abs(photo - seen).mean() < 0.3 * np.abs(photo[:, ::-1] - seen).mean()


def test_a_visitor_who_waits_is_told_how_many_are_ahead(browser, url, tmp_path):
    """Three at once with large photos: whoever is not first reads it, in the browser's language."""
    with Image.open(PORTRAIT) as portrait:
        portrait.resize((4500, 5600)).save(tmp_path / "large.jpg", quality=95)
    watch = """() => { window.lines = []; new MutationObserver(() => window.lines.push(document.querySelector('#line').innerText))
      .observe(document.querySelector('#line'), {childList: true, subtree: true, characterData: true}); }"""  # noqa: E501
    pages = []
    for locale in ("en-US", "zh-CN", "en-US"):
        pages.append(browser.new_context(locale=locale).new_page())
        pages[-1].goto(url)
        pages[-1].wait_for_selector("#photo input[type=file]", state="attached", timeout=240_000)
        pages[-1].wait_for_selector("#line", state="attached")
        pages[-1].evaluate(watch)
    try:
        for page in pages:
            page.set_input_files("#photo input[type=file]", str(tmp_path / "large.jpg"))
        for page in pages[1:]:
            page.wait_for_function(
                "() => window.lines.some(l => /ahead of you: [12]|前面还有 [12] 人/.test(l))", timeout=240_000
            )
        for page in pages:
            page.wait_for_selector("#result img", state="attached", timeout=240_000)
            page.wait_for_function(
                "() => !/ahead of you|前面还有/.test(document.querySelector('#line').innerText)",
                timeout=240_000,
            )
    finally:
        for page in pages:
            page.context.close()


def open_tab(page, number, waits_for):
    page.get_by_role("tab").nth(number).click()
    page.wait_for_selector(waits_for, timeout=240_000)
    page.wait_for_timeout(500)


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


@both
def test_every_tab_and_nothing_wider_than_the_page(page):
    upload(page, PORTRAIT)
    assert fits(page)
    open_tab(page, 1, "#grid img")
    page.wait_for_function(
        "() => document.querySelector('#whatif').innerText.includes('ms')", timeout=240_000
    )
    assert page.locator("#grid img").count() == len(small_engine().weights.candidates) and fits(page)
    page.locator("#grid button").nth(1).click()
    page.wait_for_selector("#large img", timeout=240_000)
    page.wait_for_selector("#difference img", timeout=240_000)
    open_tab(page, 2, "#runs img")
    assert "cores" in page.locator("#device-line").inner_text() and fits(page)
    open_tab(page, 3, "#method svg")
    assert all(
        w in page.locator("#about-text").inner_text() for w in ("Fair use", "Privacy", "parents", "identify")
    ) and fits(page)
    page.get_by_text("Model card").first.click()
    page.wait_for_selector("text=Files and licences", timeout=240_000)
    assert "CC BY 4.0" in page.content() and fits(page)


def test_holding_the_button_shows_the_photo(page):
    upload(page, PORTRAIT)
    photo = "getComputedStyle(document.querySelector('#result .before')).visibility"
    page.locator("#hold").hover()
    assert page.evaluate(photo) == "hidden"
    page.mouse.down()
    assert page.evaluate(photo) == "visible"
    page.mouse.up()
    assert page.evaluate(photo) == "hidden"
    page.locator("#result .frame").hover()  # the picture itself, for longer than a tap
    page.mouse.down()
    page.wait_for_function(f"() => {photo} === 'visible'", timeout=20_000)
    page.mouse.up()
    assert page.evaluate(photo) == "hidden"


def test_side_by_side_and_the_face_alone(page):
    upload(page, PORTRAIT)
    page.locator("#mode-pair").click()
    places = page.eval_on_selector_all("#result img", "v => v.map(i => i.getBoundingClientRect().x)")
    assert abs(places[0] - places[1]) > 100 and page.locator("#result .before").is_visible()
    page.locator("#mode-result").click()
    page.locator("#zoom").click()
    page.wait_for_function(
        "() => document.querySelector('#result img').src.includes('face-0')", timeout=240_000
    )


@both
def test_tapping_a_face_picks_it_and_each_keeps_its_own_age(page, tmp_path):
    two = [load_photo(ROOT / f"assets/portraits/london_{k}.jpg")[:1100, :1000] for k in ("021", "031")]
    save_photo(tmp_path / "two.jpg", np.hstack(two))
    upload(page, tmp_path / "two.jpg")
    page.wait_for_selector("#result .ring", timeout=240_000)

    def picked():
        return page.eval_on_selector_all("#who input", "v => v.findIndex(i => i.checked)")

    assert page.locator("#who input").count() == 3 and picked() == 0  # everyone
    seen = []
    for face in (0, 1):
        page.locator("#result .ring").nth(face).click()
        page.wait_for_function(
            "s => { const k = [...document.querySelectorAll('#who input')].findIndex(i => i.checked);"
            " return k > 0 && !s.includes(k); }",
            arg=seen,
            timeout=240_000,
        )
        seen.append(picked())
    # all at once, before anything is answered: no answer moves the thumb, and no face gets another's age
    set_years(page, -20)
    years = page.locator("#years input[type=range]")
    for ring, own in ((0, 20), (1, -20), (0, 20)):
        page.locator("#result .ring").nth(ring).click()
        assert float(years.input_value()) == own
    page.wait_for_function(
        "() => { const told = document.querySelector('#board [data-told]').dataset.told;"
        " const board = JSON.parse(decodeURIComponent(told));"
        " return board.who === 0 && board.own[0] === 20 && board.own[1] === -20; }",
        timeout=240_000,
    )
    assert float(years.input_value()) == 20


def test_the_journey_gives_three_files(page, tmp_path):
    upload(page, PORTRAIT)
    open_settings(page)
    page.locator("#journey button").first.click()
    page.locator("#make").click()
    page.wait_for_selector("#film img", timeout=240_000)
    for kind, start in (("strip", b"\x89PNG"), ("gif", b"GIF8"), ("mp4", b"")):
        page.wait_for_selector(f"#save-{kind}:not([disabled])", timeout=240_000)
        with page.expect_download(timeout=240_000) as got:
            page.click(f"#save-{kind}")
        got.value.save_as(tmp_path / kind)
        data = (tmp_path / kind).read_bytes()
        assert data.startswith(start) and len(data) > 5000
    assert (tmp_path / "mp4").read_bytes()[4:8] == b"ftyp"


def test_another_photo_ends_the_journey_and_its_strip(page):
    upload(page, PORTRAIT)
    open_settings(page)
    page.locator("#journey button").first.click()
    page.locator("#make").click()
    page.wait_for_selector("#told:has-text('Drawing')", timeout=240_000)
    page.locator("#examples button").nth(3).click()
    page.wait_for_selector("#cancel[disabled]", timeout=240_000)
    wait_for_result(page)
    assert not page.locator("#film").is_visible() and page.locator("#save-mp4").is_disabled()


def test_chinese_browsers_get_chinese(browser, url, tmp_path):
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(url, timeout=240_000)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=240_000)
    page.wait_for_selector("text=照片不会离开这台设备", timeout=240_000)
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    page.wait_for_function(
        "() => document.querySelector('#years .info-text')?.textContent.includes('现在看起来')",
        timeout=240_000,
    )
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    page.set_input_files("#photo input[type=file]", str(tmp_path / "grey.png"))
    page.wait_for_selector("text=没有找到人脸", timeout=240_000)
    open_tab(page, 2, "#runs img")
    assert "线程" in page.locator("#device-line").inner_text()
    page.wait_for_function(
        "() => /符合|选中|档案/.test(document.querySelector('#tried').innerText)", timeout=240_000
    )
    open_tab(page, 3, "text=按等待预算")
    context.close()


def test_importing_the_app_starts_nothing():
    code = "import threading, app; assert threading.active_count() < 3; b = app.build(); assert b is not None"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
