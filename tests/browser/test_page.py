"""The page as a visitor meets it, in headless Chromium; the same again with the network cut off."""
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agedit import load_photo

ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "assets/portraits/london_021.jpg"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

if CHROMIUM is None and os.environ.get("CI") != "true":
    pytest.skip("no Chromium on this machine", allow_module_level=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The app in a process whose sockets refuse every address but loopback."""
    folder = tmp_path_factory.mktemp("app")
    guard = folder / "sitecustomize.py"
    guard.write_text(
        "import socket\n"
        "real = socket.socket.connect\n"
        "def connect(self, address):\n"
        "    host = address[0] if isinstance(address, tuple) else ''\n"
        "    if host and host not in ('127.0.0.1', '::1', 'localhost'):\n"
        f"        open({str(folder / 'leaks')!r}, 'a').write(str(address) + '\\n')\n"
        "        raise OSError('the network is cut off')\n"
        "    return real(self, address)\n"
        "socket.socket.connect = connect\n"
        "lookup = socket.getaddrinfo\n"
        "def getaddrinfo(host, *args, **kwargs):\n"
        "    if host not in (None, '', '127.0.0.1', '::1', 'localhost', '0.0.0.0', b'127.0.0.1'):\n"
        f"        open({str(folder / 'leaks')!r}, 'a').write(str(host) + '\\n')\n"
        "        raise OSError('the network is cut off')\n"
        "    return lookup(host, *args, **kwargs)\n"
        "socket.getaddrinfo = getaddrinfo\n")
    port = free_port()
    env = os.environ | {"GRADIO_SERVER_PORT": str(port), "AGEDIT_PROFILES": str(folder / "profiles"),
                        "PYTHONPATH": str(folder), "GRADIO_TEMP_DIR": str(folder / "cache")}
    log = (folder / "log").open("w")
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail("the app ended: " + (folder / "log").read_text())
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            break
        except OSError:
            time.sleep(0.2)
    else:
        process.kill()
        pytest.fail("the app did not answer in 60 s: " + (folder / "log").read_text())
    yield address
    process.terminate()
    process.wait(20)
    assert not (folder / "leaks").exists(), (folder / "leaks").read_text()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(request, browser, url):
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    outside = []
    context.on("request", lambda r: outside.append(r.url) if not r.url.startswith((url, "data:", "blob:")) else None)
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
    page.wait_for_function("document.querySelector('#line').innerText.includes('Looks about')", timeout=60_000)


def set_years(page, value):
    """Drag the slider's thumb there, as a visitor does."""
    slider = page.locator("#years input[type=range]")
    page.wait_for_timeout(1200)                 # on a phone the page first scrolls to the result
    slider.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = slider.bounding_box()
    low, high = float(slider.get_attribute("min")), float(slider.get_attribute("max"))
    now = float(slider.input_value())
    at = lambda v: (box["x"] + 8 + (box["width"] - 16) * (v - low) / (high - low), box["y"] + box["height"] / 2)
    page.mouse.move(*at(now))
    page.mouse.down()
    for v in np.linspace(now, value, 8):
        page.mouse.move(*at(v))
        page.wait_for_timeout(60)
    page.mouse.up()
    return float(slider.input_value())


def test_from_upload_to_download(page, tmp_path):
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    wait_for_result(page)
    first = line(page)
    sources = lambda: page.eval_on_selector_all("#result img", "v => v.map(i => i.src)")
    before = sources()
    set_years(page, 40)
    page.wait_for_function("t => document.querySelector('#line').innerText !== t && "
                           "document.querySelector('#line').innerText.includes('Looks about')", arg=first, timeout=60_000)
    assert sources() != before
    page.wait_for_selector("#download:not([disabled])", timeout=60_000)
    page.wait_for_timeout(1500)
    with page.expect_download(timeout=60_000) as got:
        page.click("#download")
    got.value.save_as(tmp_path / "out.png")
    out, photo = load_photo(tmp_path / "out.png"), load_photo(PORTRAIT)
    assert out.shape == photo.shape and not np.array_equal(out, photo)
    assert "px" in line(page) and "ms" in line(page)


def test_an_example_is_one_click_away(page):
    page.locator("#examples button img, #examples button").first.click()
    wait_for_result(page)


def test_a_bad_file_gets_a_plain_message_and_the_page_goes_on(page, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(PORTRAIT.read_bytes()[:9000])
    page.set_input_files("#photo input[type=file]", str(tmp_path / "broken.jpg"))
    page.wait_for_selector("text=damaged or incomplete", timeout=60_000)
    assert "Traceback" not in page.content()


def test_nothing_is_wider_than_the_page(page):
    page.set_input_files("#photo input[type=file]", str(PORTRAIT))
    wait_for_result(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_importing_the_app_starts_nothing():
    code = "import threading, app; assert threading.active_count() < 3; b = app.build(); assert b is not None"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
