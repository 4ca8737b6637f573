"""The bench runs and says what it measured; how fast anything is, no test decides."""
import numpy as np
import pytest

from agedit.bench import convolutions, growth, interleaved, random_generator, table, unet
from agedit.graph import generator_graph
from agedit.runtime import open_session
from agedit.submodel import slice_weights


def test_the_yardstick_and_the_peer_run_and_count_their_work():
    run, macs = convolutions(1)
    assert np.isfinite(run()[0]).all() and macs == 8 * 128 * 128 * 9 * 64 * 64
    window, macs = unet(1, edge=64)
    assert window()[0].shape == (1, 3, 64, 64) and macs * 64 == pytest.approx(193e9, rel=0.1)


def test_an_untrained_generator_has_the_trained_ones_shapes(engine):
    drawn, trained = random_generator(engine.weights.resolutions[-1]), engine.weights.part("generator")
    assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in trained.items()}
    session = open_session(generator_graph(random_generator(256), 256, 0.25))
    feed = {"f": np.zeros((1, 512), np.float32), "photo": np.zeros((1, 3, 256, 256), np.float32)}
    assert session.run(None, feed)[0].shape == (1, 3, 256, 256)
    assert slice_weights(random_generator(64), 64, 0.25)["start"].shape == (1, 64, 4, 4)


def test_interleaved_runs_count_every_task_alike():
    calls = {"a": 0, "b": 0}

    def task(name):
        calls[name] += 1
    times = interleaved({k: (lambda k=k: task(k)) for k in calls}, runs=5)
    assert calls == {"a": 7, "b": 7} and all(len(t.runs) == 5 for t in times.values())


def test_growth_and_the_table(engine):
    rows = growth(engine, (0.3, 1))["by_size"]
    assert [r["megapixels"] for r in rows] == [0.3, 1] and all(r["generate"] > 0 and r["blend"] > 0 for r in rows)
    text = table({"threads": 2, "yardstick_gflops": 100, "submodels": [{"r": 64, "c": 1.0, "p50_ms": 5, "gmacs": 3, "share": 0.5}],
                  "narrow": {"64": 4}, "edit": {"by_size": rows}, "load_s": 1, "first_edit_s": 1, "peak_memory_mb": 300})
    assert "50%" in text and "300 MB" in text
