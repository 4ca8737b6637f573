"""Screenshots of every tab for the docs: python tests/browser/screenshots.py docs/page. Needs Chromium, like
the tests.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from conftest import CHROMIUM, FLAGS, free_port  # noqa: E402

PORTRAIT = ROOT / "assets/portraits/london_031.jpg"
READY = {"edit": "#result img", "compare": "#large img", "device": "#runs img", "about": "#method svg"}
LOOKS = [
    ("light-en", "light", "en-US", 1366),
    ("dark-zh", "dark", "zh-CN", 1366),
    ("phone-en", "light", "en-US", 390),
    ("phone-zh", "dark", "zh-CN", 390),
]
HEIGHTS = {1366: 768, 390: 844}


def shoot(page, path):
    page.wait_for_timeout(900)
    for y in range(
        0, page.evaluate("document.documentElement.scrollHeight"), 600
    ):  # pictures far below load when one gets there
        page.evaluate("y => window.scrollTo(0, y)", y)
        page.wait_for_timeout(50)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_function(
        "() => [...document.images].every(image => !image.offsetParent || image.complete && image.naturalHeight)"  # noqa: E501
    )
    Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB").save(
        path, quality=82, optimize=True
    )


def visit(browser, url, out, name, theme, locale, width):
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHTS[width]}, color_scheme=theme, locale=locale
    )
    page = context.new_page()
    page.goto(url, timeout=180_000)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=180_000)
    page.wait_for_function("() => document.querySelector('#line').innerText.length > 20", timeout=180_000)
    for number, (tab, selector) in enumerate(READY.items()):
        page.get_by_role("tab").nth(number).click()
        if tab == "compare":
            page.wait_for_selector("#grid img", timeout=180_000)
            page.locator("#grid button").nth(1).click()
        page.wait_for_selector(selector, state="attached", timeout=180_000)
        shoot(page, out / f"{tab}-{name}.jpg")
    context.close()


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        env = os.environ | {
            "GRADIO_SERVER_PORT": str(port),
            "AGEDIT_PROFILES": f"{folder}/profiles",
            "GRADIO_TEMP_DIR": f"{folder}/cache",
        }
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
            time.sleep(8)  # the device is timed first
            with sync_playwright() as p:
                browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                for look in LOOKS:
                    visit(browser, f"http://127.0.0.1:{port}", out, *look)
                browser.close()
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
