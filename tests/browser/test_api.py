"""The named HTTP endpoints by gradio_client, and a hostile client."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from conftest import PORTRAITS, ROOT
from known_device import small_engine
from PIL import Image
from recorder import RECORDER, WAIT

from agedit import load_photo


@pytest.fixture(scope="module")
def client(url):
    os.environ["GRADIO_ANALYTICS_ENABLED"] = (
        "False"  # as the readme says: Client's own argument is not enough
    )
    from gradio_client import Client

    return Client(url, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": 60})


def photo():
    from gradio_client import handle_file

    return handle_file(str(PORTRAITS[0]))


def test_edit(client):
    path, data = client.predict(photo(), 20, 5000, "0", False, api_name="/edit")
    before, after = load_photo(PORTRAITS[0]), load_photo(path)
    assert after.shape == before.shape and not np.array_equal(after, before)
    assert data["age_after"] > data["age_before"] and data["fits"] and set(data["submodel"]) == {"r", "c"}
    with Image.open(path) as file:
        assert "DigitalSourceType" in file.info["XML:com.adobe.xmp"]
    marked, _ = client.predict(photo(), 20, 5000, "0", True, api_name="/edit")
    assert (load_photo(marked) != after).any(2).mean() < 0.02  # only the words in the corner
    same, _ = client.predict(photo(), 0, 5000, "all", True, api_name="/edit")
    assert np.array_equal(load_photo(same), before)


def test_tune_compare_and_journey(client):
    tuned = client.predict(5000, False, api_name="/tune")
    assert tuned["fits"] and tuned["tried"] and tuned["threads"] >= 1
    rows = client.predict(photo(), 20, 5000, "0", api_name="/compare")["submodels"]
    assert (
        len(rows) == len(small_engine().weights.candidates)
        and rows[0]["difference"] == 0
        and sum(r["chosen"] for r in rows) == 1
    )
    strip, gif, mp4 = client.predict(photo(), 20, "0", api_name="/journey")
    assert load_photo(strip).shape[1] > 5 * 384 and Image.open(gif).n_frames > 40
    assert open(mp4, "rb").read(8)[4:] == b"ftyp"


def test_only_the_documented_endpoints_are_named(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/edit",
        "/tune",
        "/compare",
        "/journey",
    }


def test_bad_input_is_one_plain_sentence(client, tmp_path):
    from gradio_client import handle_file

    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    for arguments, words in (
        ((handle_file(str(tmp_path / "grey.png")), 20, 100, "0", True), "No face"),
        ((photo(), 400, 100, "0", True), "out of range"),
        ((photo(), 20, -5, "0", True), "positive"),
        ((photo(), 20, 100, "9", True), "no face 9"),
    ):
        with pytest.raises(Exception, match=words) as caught:
            client.predict(*arguments, api_name="/edit")
        assert "Traceback" not in str(caught.value)


def call(url, path, data=None, headers=None):
    request = urllib.request.Request(url + path, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_pictures_that_were_not_uploaded_are_not_read(url):
    """Neither the server's own files, with or without Gradio's marks on them, nor anything from the
    network.
    """
    private = ROOT / "docs" / "before_after.jpg"
    assert private.exists()
    meta = {"meta": {"_type": "gradio.FileData"}}
    for named, words in (
        ({"path": str(private)}, b"not uploaded here"),
        ({"path": str(private)} | meta, b"not uploaded here"),
        ({"path": "http://127.0.0.1:1/a.png"} | meta, b"fetches nothing"),
        ({"path": str(private), "url": "http://127.0.0.1:1/a.png"} | meta, b"fetches nothing"),
    ):
        status, answer = call(
            url,
            "/gradio_api/call/edit",
            json.dumps({"data": [named, 0, 150, "0", False]}).encode(),
            {"Content-Type": "application/json"},
        )
        assert status in (400, 404) and words in answer, answer


def test_other_sites_may_not_read_answers(url):
    request = urllib.request.Request(url + "/gradio_api/info", headers={"Origin": "https://evil.example"})
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        assert error.code == 403 and error.headers.get("Access-Control-Allow-Origin") is None
    else:
        pytest.fail("another site was answered")


def test_a_hostile_client_gets_clean_errors_and_the_next_visitor_is_served(client, url):
    secret = (ROOT / "requirements.txt").read_bytes()
    for path in (
        "/gradio_api/file=/etc/passwd",
        f"/gradio_api/file={ROOT}/requirements.txt",
        "/gradio_api/file=../requirements.txt",
        "/gradio_api/file=%2e%2e/%2e%2e/etc/passwd",
        "/file=/etc/passwd",
        f"/gradio_api/file={ROOT}/weights/../requirements.txt",
    ):
        status, body = call(url, path)
        assert status >= 400 and b"root:" not in body and secret not in body, path
    as_json = {"Content-Type": "application/json"}
    for body in (
        b"{",
        b"[]",
        json.dumps({"data": [{"path": "/etc/passwd"}, 20, 100, "0", True]}).encode(),
        b"\x00" * 5000,
        json.dumps({"data": [None] * 400}).encode(),
        json.dumps({"data": [{"path": "https://example.com/a.jpg"}, 1, 1, "0", True]}).encode(),
    ):
        status, answer = call(url, "/gradio_api/call/edit", body, as_json)
        assert status in (400, 404, 422) and json.loads(answer)["error"], answer
        assert b"root:" not in answer and b"Traceback" not in answer
    _, data = client.predict(photo(), 10, 5000, "0", True, api_name="/edit")
    assert data["fits"]


def test_uploads_over_the_limit_are_refused(client, url):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'  # noqa: E501
        + b"\xff" * (61 << 20)
        + b"\r\n--x--\r\n"
    )
    try:
        status, answer = call(
            url, "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
        )
    except urllib.error.URLError:  # hung up on before all of it was sent
        status, answer = 413, b""
    assert status == 413 and b"Traceback" not in answer
    assert client.predict(photo(), 10, 5000, "0", True, api_name="/edit")[1]["fits"]


def test_many_at_once_good_and_bad_and_nobody_is_lost(client, tmp_path):
    from gradio_client import handle_file

    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    (tmp_path / "broken.jpg").write_bytes(PORTRAITS[0].read_bytes()[:5000])
    jobs = [
        client.submit(
            photo() if k % 3 == 0 else handle_file(str(tmp_path / ("grey.png", "broken.jpg")[k % 3 - 1])),
            5 + k,
            5000,
            "0",
            True,
            api_name="/edit",
        )
        for k in range(12)
    ]
    for k, job in enumerate(jobs):
        if k % 3 == 0:
            assert job.result(timeout=400)[1]["years"] == 5 + k
        else:
            with pytest.raises(Exception, match=r"No face|damaged"):
                job.result(timeout=400)


def test_the_readme_asks_nobody_but_the_page(url):
    """The readme's own lines, with every name that is looked up recorded; without its variable there is one."""  # noqa: E501
    readme = (ROOT / "README.md").read_text()
    example = readme[readme.index("import os\n") :].split("picture, data", 1)[0]
    assert "Client(" in example
    example = example.replace("http://127.0.0.1:7860", url)
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "HF_HUB_OFFLINE")}
    environment = {k: v for k, v in environment.items() if k != "HF_HUB_DISABLE_TELEMETRY"}
    for code, asks in ((example, False), (example.replace('os.environ["HF', 'os.environ["NO_HF'), True)):
        done = subprocess.run(
            [sys.executable, "-c", RECORDER + code + WAIT],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert ("asked for" in done.stdout) is asks, done.stdout
