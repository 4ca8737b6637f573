"""The bench runs and says what it measured; how fast anything is, no test decides."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PORTRAITS, ROOT
from known_device import small_engine
from recorder import RECORDER, WAIT

from agedit.bench import choice as bench_choice
from agedit.bench.choice import Attempt, choosing, judge
from agedit.bench.growth import by_faces, by_size, by_visitors
from agedit.bench.networks import convolutions, random_generator
from agedit.bench.page import edit_by_page
from agedit.bench.peers import unet
from agedit.bench.plot import plot
from agedit.bench.promise import promise
from agedit.bench.report import table
from agedit.bench.timing import interleaved
from agedit.errors import AgeEditError
from agedit.runtime import open_session
from agedit.runtime.graphs import generator_graph, photo_inputs
from agedit.selection import selector
from agedit.selection.times import Times
from agedit.submodel import slice_weights, work


def test_the_yardstick_and_the_peer_run_and_count_their_work():
    run, macs = convolutions(1)
    assert np.isfinite(run()[0]).all() and macs == 8 * 128 * 128 * 9 * 64 * 64
    window, macs = unet(1, edge=64)
    assert window().shape == (1, 3, 64, 64) and macs * 64 == pytest.approx(193e9, rel=0.1)


def test_an_untrained_generator_has_the_trained_ones_shapes(engine):
    drawn, trained = random_generator(engine.weights.resolutions[-1]), engine.weights.part("generator")
    assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in trained.items()}
    session = open_session(generator_graph(random_generator(256), 256, 0.25))
    feed = {"f": np.zeros((1, 512), np.float32), **photo_inputs(np.zeros((1, 3, 256, 256), np.float32))}
    assert session.run(None, feed)[0].shape == (1, 3, 256, 256)
    assert slice_weights(random_generator(64), 64, 0.25)["start"].shape == (1, 64, 4, 4)


def test_interleaved_runs_count_every_task_alike():
    calls = {"a": 0, "b": 0}

    def a():
        calls["a"] += 1

    def b():
        calls["b"] += 1

    times = interleaved({"a": a, "b": b}, runs=5)
    assert calls == {"a": 7, "b": 7} and all(len(t.runs) == 5 for t in times.values())


def test_growth_by_size_faces_and_visitors(engine):
    rows = by_size(engine, (0.3, 1))
    assert [r["megapixels"] for r in rows] == [0.3, 1] and all(
        r["generate"] > 0 and r["blend"] > 0 for r in rows
    )
    assert [r["faces"] for r in by_faces(engine, (1, 2))] == [1, 2]
    rows = by_visitors(engine, (1, 3), edits=3)
    assert [(r["edits"], r["lost"]) for r in rows] == [(3, 0), (9, 0)] and all(r["uneven"] >= 1 for r in rows)


def test_a_choice_is_judged_by_times_of_everything():
    order = [("a", 1), ("b", 1), ("c", 1)]
    times = {k: Times([ms] * 10) for k, ms in zip(order, (30.0, 20.0, 10.0), strict=True)}

    def verdict(k, budget):
        return judge(order[k], times, order, budget, dict.fromkeys(order, 0.06))

    assert verdict(1, 25) == "best" and verdict(2, 5) == "best"
    assert verdict(0, 29.5) == "noise" and verdict(1, 30.5) == "noise"
    assert verdict(2, 25) == "worse" and verdict(0, 20.5) == "worse"


def test_choosing_and_the_promise_say_what_they_measured(monkeypatch):
    engine = small_engine(64)
    monkeypatch.setattr(bench_choice, "ATTEMPTS", 1)
    monkeypatch.setattr(selector, "IDLE_RUNS", selector.IDLE_ROUNDS)
    found = choosing(engine, budgets=3, runs=3)
    assert (
        found["best"] + found["within_noise"] + found["worse"] == pytest.approx(1, abs=0.01)
        and found["share_of_exhaustive"] > 0
    )
    rows = promise(engine, budgets=2, edits=5)
    assert [r["edits"] for r in rows] == [5, 5] and all(
        0 <= r["within_125"] <= 1 and r["p90_share"] > 0 for r in rows
    )


def test_the_steadiest_attempt_counts_at_the_pace_of_its_tuning(monkeypatch):
    engine, drifts = small_engine(), [(1.3, 1.3), (0.9, 1.1), (1.0, 1.2)]
    order = engine.weights.order

    def times(slow):
        return {rc: Times([slow * (5 + 1e-8 * work(rc))] * 20) for rc in order}

    def attempt(drift):
        return Attempt(
            tuned=times(1),
            threads=2,
            before=times(drift[0]),
            after=times(drift[1]),
            choosing_s=1.0,
            exhaustive_s=10.0,
            drift=drift,
        )

    left = iter(drifts)
    monkeypatch.setattr(bench_choice, "_attempt", lambda tuner, runs: attempt(next(left)))
    found = choosing(engine)
    assert (
        found["attempts"] == 3
        and found["drift"] == pytest.approx(1 / 0.9, abs=1e-3)
        and found["share_of_exhaustive"] == 0.1
    )
    assert found["worse"] == 0 and found["noise"] == pytest.approx(
        0.06
    )  # one pace for both: the halves agree again
    left = iter([(1.01, 0.99), *drifts])
    assert choosing(engine)["attempts"] == 1


def test_the_table_says_what_is_met(tmp_path):
    part = {
        "yardstick_gflops": 100,
        "submodels": [{"r": 128, "c": 1.0, "p50_ms": 5, "gmacs": 3, "share": 0.5}],
        "narrow": {"256": 8},
    }
    data = {
        "runtime": "some 1.0",
        "threads": 2,
        "networks": {"precisions": {"f32": part}, "extract_ms": {"128:1": 80}, "open_ms": {"128:1": 400}},
        "lowered": None,
        "moves": {"ms": 20.0, "share": 0.99, "switch_ratio": 1.0, "read_ms": 3.0},
        "light": {
            "page_s": 2.0,
            "first_edit_s": 0.5,
            "peak_memory_mb": 300,
            "first_start_memory_mb": 400,
            "torch": False,
        },
        "choosing": {
            "budgets": 40,
            "best": 0.9,
            "within_noise": 0.1,
            "noise": 0.05,
            "answer_ms": 0.1,
            "verify_s": 1,
            "threads": 2,
            "drift": 1.0,
            "attempts": 1,
            "seconds": 1,
            "share_of_exhaustive": 0.1,
        },
        "promise": [
            {
                "budget_ms": 20,
                "submodel": [64, 0.25],
                "edits": 300,
                "p50_ms": 10,
                "p90_ms": 30,
                "p90_share": 1.5,
                "within_125": 0.8,
                "told": 0.1,
            }
        ],
        "by_size": [
            {"megapixels": m, "generate": g, "blend": b}
            for m, g, b in ((0.3, 10, 1), (3, 10, 5), (30, 11, 80))
        ],
        "by_faces": [{"faces": n, "ms": 10.0 * n, "ratio": n} for n in (1, 4)],
        "by_visitors": [
            {"visitors": n, "p50_ms": 10 * n, "ratio": n, "lost": n - 1, "uneven": 1.0} for n in (1, 2)
        ],
    }
    lines = table(data).splitlines()

    def found(words):
        return next(line for line in lines if words in line)

    def met(words):
        return found(words).endswith("met") and not found(words).endswith("not met")

    assert met("256 px") and met("peak memory") and met("choice is the best")
    assert found("128:1").endswith("not met") and found("edits: p90").endswith("not met")
    assert (
        met("generate, 30 MP over 0.3 MP")
        and met("4 faces")
        and met("2 visitors")
        and found("edits lost").endswith("not met")
    )
    assert "1.60 times" in found("paste-back") and found("paste-back").endswith("not met")
    plot(data, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_without_its_client_the_page_is_not_timed(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio_client", None)
    with pytest.raises(AgeEditError, match="needs the package gradio_client"):
        edit_by_page("http://127.0.0.1:9/", PORTRAITS[0], (10,))


def test_the_bench_imports_no_client_before_it_needs_one():
    code = "import sys, agedit.bench.run; assert not {'gradio', 'gradio_client'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


EDIT = """
from agedit.bench.page import edit_by_page
from agedit.errors import AgeEditError
url, photo, text = sys.argv[1:]
edit_by_page(url, photo, (10,))
try:
    edit_by_page(url, text, (10,))
except AgeEditError as error:
    print(error)
"""


def test_the_page_edits_for_the_bench_and_nobody_else_hears_of_it(url, tmp_path):
    silent = ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "CI")
    environment = {k: v for k, v in os.environ.items() if k not in silent}
    environment |= {"HTTP_PROXY": "http://proxy.example:8080", "HTTPS_PROXY": "http://proxy.example:8080"}
    (tmp_path / "text.jpg").write_text("not a picture")
    program = [
        sys.executable,
        "-c",
        RECORDER + EDIT + WAIT,
        url,
        str(PORTRAITS[0]),
        str(tmp_path / "text.jpg"),
    ]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The page refused" in done.stdout and "asked for" not in done.stdout
