"""No packet leaves and nothing is left behind: the page in a real browser, every command, both README
examples.

All of it runs in a network namespace where whatever is sent to anywhere but this machine is recorded,
look-ups of names included, with none of the variables set that switch reports off or tell a program that it
is being tested.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import CHROMIUM, PORTRAITS, ROOT
from known_device import write_profile
from playwright.sync_api import Browser, Page, Playwright
from sealed import NOBODY_4, NOBODY_6, Packet, Sealed, leaves, parse

from agedit import load_photo, save_photo
from agedit.selection.budget import MIN_RUNS

ADDRESS = "http://127.0.0.1:7860"  # the README's; the namespace is empty, so its port is free
SLOW = 600_000  # ms: the device is timed meanwhile
# What Chromium itself asks for, whatever page it shows; it is told that they do not exist. Nothing of the
# page's is hidden by that: the test also sees every address that the page asked for.
BROWSER_HOSTS = (
    "accounts.google.com",
    "clients2.google.com",
    "content-autofill.googleapis.com",
    "optimizationguide-pa.googleapis.com",
    "redirector.gvt1.com",
    "safebrowsing.googleapis.com",
    "update.googleapis.com",
)
BROWSER_FLAGS = [  # a browser that has nothing to say of its own; `test_a_browser_alone_is_silent` sees to it
    "--host-resolver-rules=" + ",".join(f"MAP {host} ~NOTFOUND" for host in BROWSER_HOSTS),
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
]
ENDED = (0, -15, 130, -2)  # exit statuses of a server that was told to end
OWN = re.compile(r"agedit|gradio")  # names of our folders among the temporary ones
LIBRARIES = ("agedit", "gradio", "gradio_client", "matplotlib", "mediapipe", "onnxruntime", "openvino")
PLANT = f"""
import socket
for family, address in ((socket.AF_INET, {NOBODY_4!r}), (socket.AF_INET6, {NOBODY_6!r})):
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"planted", (address, 4444))
    stream = socket.socket(family)
    stream.setblocking(False)
    stream.connect_ex((address, 80))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("224.0.0.251", 5353))
try:
    socket.getaddrinfo(NAME, 443)
except OSError:
    pass
"""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    try:
        namespace = Sealed(tmp_path_factory.mktemp("sealed")).__enter__()
    except OSError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"this machine makes no network namespaces: {error}")
    yield namespace
    namespace.__exit__()


@pytest.fixture(scope="module")
def env(sealed: Sealed) -> dict[str, str]:
    """A fresh user's variables: nothing inherited but where programs are."""
    result = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "AGEDIT_PROFILES": str(sealed.folder / "profiles"),
    }
    folders = {"HOME": "home", "TMPDIR": "temporary"}
    folders |= {
        f"XDG_{kind}_HOME": f"home/.xdg-{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA", "STATE")
    }
    for variable, name in folders.items():
        (sealed.folder / name).mkdir(parents=True, exist_ok=True)
        result[variable] = str(sealed.folder / name)
    return result


def files(folder: Path, but: str = r"__pycache__|\.pytest_cache|\.ruff_cache|\.git$") -> dict[str, int]:
    """{path: when it was written}, in nanoseconds, of all that is not a folder below a folder."""
    found = {}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not re.search(but, name)]
        for name in names:
            path = Path(top, name)
            found[str(path)] = path.lstat().st_mtime_ns
    return found


def program_files() -> dict[str, int]:
    """The checkout's files and those of the libraries that might write beside themselves."""
    found = files(ROOT)
    for place in {Path(np.__file__).parents[1]}:
        for library in LIBRARIES:
            found |= files(place / library)
    return found


@pytest.fixture(scope="module")
def untouched(sealed: Sealed) -> Callable[[], None]:
    """Called at the end: fails where anything was written but in our own folders."""
    programs = program_files()
    covered = sealed.left_behind()

    def check() -> None:
        home = sealed.folder / "home"
        written = sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())
        assert not written, f"in the user's home: {written}"
        temporary = sealed.folder / "temporary"
        left = [str(path.relative_to(temporary)) for path in temporary.rglob("*") if not path.is_dir()]
        assert not [name for name in left if not OWN.search(name)], left
        new = {path for path in sealed.left_behind() - covered if not OWN.search(path)}
        assert not new, f"outside the user's folders: {new}"
        changed = set(program_files().items()) ^ set(programs.items())
        assert not changed, f"beside the programs: {changed}"

    return check


@pytest.fixture(scope="module")
def server(sealed: Sealed, env: dict[str, str], untouched: object) -> Iterator[subprocess.Popen[str]]:
    """The app on a device that it knows, with its small sub-models alone: the large ones only take longer."""
    write_profile(Path(env["AGEDIT_PROFILES"]))
    with serving(sealed, "tests/known_device.py", env | {"PYTHONPATH": str(ROOT)}) as process:
        yield process


@contextlib.contextmanager
def serving(sealed: Sealed, program: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A program that serves the page; what it says is in app.log."""
    log = sealed.folder / "app.log"
    with log.open("w") as output:
        process = sealed.start([sys.executable, program], ROOT, env, output)
    wait_for(lambda: ADDRESS in log.read_text() or process.poll() is not None, "the page", log)
    yield process
    process.terminate()
    process.wait(60)


def wait_for(done: Callable[[], bool], what: str, log: Path, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, f"{what} did not come: {log.read_text()[-2000:]}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def browser(sealed: Sealed, playwright: Playwright) -> Iterator[Browser]:
    """A browser whose network is the namespace's: it sees the server, and what it sends is recorded."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium on this machine")
        pytest.skip("no Chromium on this machine")
    wrapper = sealed.folder / "chromium"
    words = " ".join(f"'{word}'" for word in sealed.inside([CHROMIUM]))
    wrapper.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    wrapper.chmod(0o755)
    variables = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
    running = playwright.chromium.launch(executable_path=wrapper, args=BROWSER_FLAGS, env=dict(variables))
    yield running
    running.close()


def choose_file(page: Page, button: str, path: Path) -> None:
    """Give a file to an upload button as a visitor does."""
    with page.expect_file_chooser(timeout=SLOW) as chooser:
        page.click(button)
    chooser.value.set_files(path)


def told(packets: list[Packet]) -> set[tuple[str, str, int, str]]:
    return {(p.protocol, p.destination, p.port, p.name) for p in packets}


def wanted(name: str) -> set[tuple[str, str, int]]:
    """What `PLANT` sends, as (protocol, destination, port)."""
    sent = {
        (protocol, to, port) for protocol, port in (("TCP", 80), ("UDP", 4444)) for to in (NOBODY_4, NOBODY_6)
    }
    return sent | {("UDP", "224.0.0.251", 5353)}


@pytest.mark.parametrize("how", ["program", "child", "shared library"])
def test_the_recorder_sees_what_is_planted(sealed: Sealed, env: dict[str, str], how: str) -> None:
    since = len(sealed.packets())
    name = how.replace(" ", "-") + ".planted.example"
    code = PLANT.replace("NAME", repr(name))
    if how == "child":
        code = (
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], env={{}}, check=True)"
        )
    if how == "shared library":  # as from C: no function of Python's own sockets is called
        code += "\nimport ctypes\nctypes.CDLL(None).gethostbyname(b'from-c.planted.example')"
    ended = sealed.run([sys.executable, "-c", code], ROOT, env)
    assert ended.returncode == 0, ended.stderr
    seen = sealed.packets(since)
    assert wanted(name) <= {(p.protocol, p.destination, p.port) for p in seen}, seen
    assert name in {p.name for p in seen}
    assert how != "shared library" or "from-c.planted.example" in {p.name for p in seen}


def test_the_recorder_sees_what_a_page_asks_for(sealed: Sealed, browser: Browser) -> None:
    since = len(sealed.packets())
    page = browser.new_page()
    pictures = f"<img src='http://{NOBODY_4}:81/a.gif'><img src='http://pixel.planted.example/b.gif'>"
    page.set_content(pictures, wait_until="commit")  # they never come
    log = sealed.folder / "sealed.log"
    both = ("TCP", NOBODY_4, 81, ""), "pixel.planted.example"
    wait_for(lambda: both[0] in told(sealed.packets(since)), "the packet", log)
    wait_for(lambda: both[1] in {p.name for p in sealed.packets(since)}, "the look-up", log)
    page.close()


def test_what_stays_on_this_machine_is_not_recorded(sealed: Sealed, env: dict[str, str]) -> None:
    since = len(sealed.packets())
    code = (
        "import socket\n"
        "for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):\n"
        "    server = socket.create_server((host, 0), family=family)\n"
        "    socket.create_connection(server.getsockname()[:2]).sendall(b'x')\n"
        "socket.getaddrinfo('127.0.0.1', 80)\n"
    )
    ended = sealed.run([sys.executable, "-c", code], ROOT, env)
    assert ended.returncode == 0, ended.stderr
    assert not sealed.packets(since)


def test_packets_are_read_as_they_are() -> None:
    query = bytes(12) + b"\x01a\x02bc\x00\x00\x01\x00\x01"
    udp = b"\x00\x50\x00\x35" + bytes(4) + query
    six = (
        bytes.fromhex("60000000")
        + bytes(2)
        + b"\x11\x40"
        + bytes(16)
        + b"\x20\x01"
        + bytes(13)
        + b"\x09"
        + udp
    )
    assert parse(0x86DD, six) == Packet("2001::9", "UDP", 53, "a.bc")
    four = b"\x45" + bytes(8) + b"\x11" + bytes(6) + bytes((8, 8, 8, 8)) + udp
    assert parse(0x0800, four) == Packet("8.8.8.8", "UDP", 53, "a.bc")
    assert leaves(Packet("127.0.0.53", "UDP", 53, "a.bc"), "lo") and leaves(
        Packet("8.8.8.8", "TCP", 80), "lo"
    )
    assert not leaves(Packet("127.0.0.1", "TCP", 7860), "lo") and leaves(
        Packet("127.0.0.1", "TCP", 7860), "away0"
    )


def test_a_browser_alone_is_silent(sealed: Sealed, browser: Browser) -> None:
    """So that what is recorded while it shows the page is the page's."""
    since = len(sealed.packets())
    page = browser.new_page()
    page.goto("data:text/html,<input type=password><input type=file><p>Hello")
    page.keyboard.type("hello")
    page.wait_for_timeout(3000)  # what a browser does a moment after its start has no sign to wait for
    page.close()
    assert not told(sealed.packets(since))


def two_people(folder: Path) -> Path:
    """A photo with two faces."""
    path = folder / "two.jpg"
    save_photo(path, np.hstack([load_photo(PORTRAITS[k])[:1100:2, :1000:2] for k in (1, 2)]))
    return path


def walk(page: Page, folder: Path) -> None:
    """What a visitor can do on the page, tab by tab."""
    page.goto(ADDRESS)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=SLOW)
    page.locator("#examples button").first.click()
    page.wait_for_selector("#result img", state="attached", timeout=SLOW)
    page.set_input_files("#photo input[type=file]", two_people(folder))
    page.wait_for_selector("#result .ring", timeout=SLOW)
    slider = page.locator("#years input[type=range]")
    slider.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        slider.press(key)
    page.locator("#result .ring").nth(0).click()
    page.locator("#zoom").click()
    page.wait_for_selector("#result img", state="attached", timeout=SLOW)
    download(page, "#download", folder / "edit.png")
    page.click("#quality")
    page.locator("#journey button").first.click()
    page.locator("#make").click()
    for kind in ("strip", "gif", "mp4"):
        download(page, f"#save-{kind}", folder / kind)
    page.get_by_role("tab").nth(1).click()
    page.wait_for_selector("#grid img", timeout=SLOW)
    page.locator("#grid button").nth(1).click()
    page.wait_for_selector("#large img", timeout=SLOW)
    for kind in ("csv", "json"):
        download(page, f"#save-{kind}", folder / kind)
    page.get_by_role("tab").nth(3).click()
    page.wait_for_selector("#method svg", timeout=SLOW)
    page.get_by_text("Model card").first.click()
    page.wait_for_selector("#card", timeout=SLOW)


def download(page: Page, button: str, path: Path) -> None:
    page.wait_for_selector(f"{button}:not([disabled])", timeout=SLOW)
    with page.expect_download(timeout=SLOW) as got:
        page.click(button)
    got.value.save_as(path)
    assert path.stat().st_size > 100


def hostile_profiles(folder: Path) -> list[Path]:
    """A good profile of another device, and three that would fetch something or break a plot if they were
    believed.
    """
    good = (
        '{"schema": 1, "device": {"processor": NAME, "machine": "x", "system": "y", "cores": 2, "threads": 2,'
        ' "runtime": "r", "weights": "w"}, "times": [RUNS]}'
    )
    runs = (
        f'{{"r": {r}, "c": {c}, "runs_ms": {[ms] * MIN_RUNS}}}' for r, c, ms in ((64, 0.25, 5), (128, 1, 50))
    )
    good = good.replace("RUNS", ", ".join(runs))
    names = (
        '"A phone"',
        f'["<img src=\\"http://{NOBODY_4}/p.gif\\">"]',
        f'"![](http://{NOBODY_4}/p.gif)"',
        '"$\\\\frac{$"',
    )
    paths = []
    for number, name in enumerate(names):
        paths.append(folder / f"theirs{number}.json")
        paths[-1].write_text(good.replace("NAME", name))
    return paths


def devices(page: Page, folder: Path, env: dict[str, str]) -> None:
    """The Device tab: profiles of others come in, this device is timed again and its profile goes out; then
    Compare.
    """
    page.get_by_role("tab").nth(2).click()
    page.wait_for_selector("#device-line p", timeout=SLOW)
    good, *bad = hostile_profiles(folder)
    choose_file(page, "#import", good)
    page.wait_for_selector("text=Imported A phone", timeout=SLOW)
    for path in bad:
        choose_file(page, "#import", path)
        page.wait_for_selector(f"text=The profile {path.name} is damaged", timeout=SLOW)
        Path(env["AGEDIT_PROFILES"], path.name).write_bytes(path.read_bytes())  # dropped in the folder
    download(page, "#export", folder / "export.json")
    page.get_by_role("tab").nth(1).click()
    page.wait_for_selector("#compare-device input", timeout=SLOW)
    page.click("#compare-device input")
    page.locator("[role=option]").filter(has_text="A phone").first.click()
    page.wait_for_function(
        "() => document.querySelector('#whatif').innerText.includes('A phone')", timeout=SLOW
    )
    text = page.locator("#whatif").inner_text()
    assert text.count("is damaged") == 3 and not page.locator("#whatif img, #whatif a").count()
    assert page.locator("#plot img").count() == 1


def test_a_first_start(
    sealed: Sealed, browser: Browser, env: dict[str, str], untouched: object, tmp_path: Path
) -> None:
    """`python app.py`, as the README says, on a device that was never timed: it shows the example's edit."""
    since = len(sealed.packets())
    with serving(sealed, "app.py", env | {"AGEDIT_PROFILES": str(tmp_path)}) as process:
        page = browser.new_page()
        page.goto(ADDRESS)
        page.wait_for_selector("#result img.after", state="attached", timeout=SLOW)
        page.close()
    assert process.returncode in ENDED
    assert not told(sealed.packets(since))


def test_the_browsers_walk(
    sealed: Sealed, browser: Browser, server: subprocess.Popen[str], env: dict[str, str], tmp_path: Path
) -> None:
    since = len(sealed.packets())
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    walk(page, tmp_path)
    devices(page, tmp_path, env)
    context.close()
    outside = [url for url in asked if not url.startswith((ADDRESS, "data:", "blob:"))]
    assert not outside
    assert not told(sealed.packets(since))


def example(heading: str) -> str:
    """The Python of a section of the README, as it stands there."""
    readme = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {heading}$.*?```python\n(.*?)```", readme, re.DOTALL | re.MULTILINE)
    assert found, f"the README has no example under {heading}"
    return found[1]


@pytest.mark.parametrize("heading", ["From Python", "Over HTTP"])
def test_the_readmes_examples(
    sealed: Sealed, server: subprocess.Popen[str], env: dict[str, str], tmp_path: Path, heading: str
) -> None:
    since = len(sealed.packets())
    folder = sealed.folder / heading.replace(" ", "-")
    folder.mkdir()
    (folder / "me.jpg").write_bytes(PORTRAITS[0].read_bytes())
    ended = sealed.run([sys.executable, "-c", example(heading)], folder, env | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert not told(sealed.packets(since))


def commands(folder: Path) -> dict[str, list[str]]:
    """The README's command line, a command each way."""
    photo, people = str(PORTRAITS[0]), folder / "people"
    people.mkdir()
    (people / "a.jpg").write_bytes(PORTRAITS[0].read_bytes())
    good, *_ = hostile_profiles(folder)
    return {
        "info": ["info"],
        "profiles": ["profiles", "--import", str(good), "--json"],
        "edit": ["edit", photo, "-o", str(folder / "older.png"), "--years", "20"],
        "edit within a budget": [
            *("edit", photo, "-o", str(folder / "young.jpg"), "--years", "-15", "--face", "all"),
            *("--budget", "5000", "--json"),
        ],
        "tune": ["tune", "--budget", "10"],
        "sheet": ["sheet", str(people), "-o", str(folder / "sheet.png"), "--years=-20,20", "--size", "128"],
        "evaluate": ["evaluate", str(people), "--json"],
        "train": ["train", "--help"],
    }


def test_the_command_line(sealed: Sealed, env: dict[str, str], untouched: object) -> None:
    folder = sealed.folder / "commands"
    folder.mkdir()
    for name, arguments in commands(folder).items():
        since = len(sealed.packets())
        ended = sealed.run([sys.executable, "-m", "agedit", *arguments], ROOT, env)
        assert ended.returncode == 0, (name, ended.stderr[-2000:])
        assert not told(sealed.packets(since)), name


def test_the_bench(sealed: Sealed, env: dict[str, str], untouched: object) -> None:
    """Its first steps; it takes many minutes. AGEDIT_TEST_BENCH=1 runs all of it."""
    since = len(sealed.packets())
    log = sealed.folder / "bench.log"
    whole = os.environ.get("AGEDIT_TEST_BENCH") == "1"
    with log.open("w") as output:
        process = sealed.start([sys.executable, "-m", "agedit", "bench", "--no-peers"], ROOT, env, output)
    try:
        if whole:
            assert process.wait(3600) == 0, log.read_text()[-2000:]
        else:
            wait_for(lambda: bool(log.read_text()) or process.poll() is not None, "the bench", log)
            assert process.poll() is None, log.read_text()[-2000:]
    finally:
        process.terminate()
        process.wait(60)
    assert not told(sealed.packets(since))


def test_timing_again_and_the_end(
    sealed: Sealed,
    browser: Browser,
    server: subprocess.Popen[str],
    env: dict[str, str],
    untouched: Callable[[], None],
) -> None:
    """The device is timed again from the page; then the server ends, and nothing was sent or left."""
    page = browser.new_page()
    page.goto(ADDRESS)
    log = sealed.folder / "app.log"

    def shows_times() -> bool:
        """Opened anew: the tab is filled when it is opened, and the device is timed in quiet moments."""
        page.get_by_role("tab").nth(0).click()
        page.get_by_role("tab").nth(2).click()
        page.wait_for_timeout(3000)
        return page.locator("#runs img").count() > 0

    wait_for(shows_times, "times", log, SLOW / 1000)
    own = [
        path for path in Path(env["AGEDIT_PROFILES"]).iterdir() if path.name not in ("a-phone-2-cores.json",)
    ]
    before = {path: path.stat().st_mtime_ns for path in own}
    page.fill("#tune-budget input[type=number]", "10")  # few sub-models have to be timed for so little
    page.locator("#tune-budget input[type=number]").blur()
    page.click("#tune")
    wait_for(
        lambda: any(path.stat().st_mtime_ns != t for path, t in before.items()), "new times", log, SLOW / 1000
    )
    page.close()
    server.terminate()
    assert server.wait(60) in ENDED, log.read_text()[-2000:]
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
    planted = ("203.0.113.5", "2001:db8:1::5", "224.0.0.251")
    sent = [p for p in sealed.packets() if p.destination not in planted and "planted.example" not in p.name]
    assert not told(sent)
    untouched()
