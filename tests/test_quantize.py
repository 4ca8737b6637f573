"""int8: kernels and inputs in whole numbers, and pictures that stay what they are."""

import numpy as np
import pytest
import torch
from conftest import PORTRAITS

from agedit import AgeEditor, load_photo, runtime
from agedit.graph import Builder, convolutions_graph, generator_graph, photo_inputs
from agedit.network.generator import Generator
from agedit.quantize import evened, whole_numbers, widest
from agedit.runtime import measure_ranges, open_session, open_submodel, quickest_precision, uses_openvino
from agedit.submodel import layers
from agedit.weights import RANGES, Weights


def test_kernels_are_within_half_a_step():
    kernel = np.random.default_rng(0).standard_normal((5, 7, 3, 3)) * np.arange(1, 6)[:, None, None, None]
    whole, steps = whole_numbers(kernel)
    assert np.abs(whole).max() == 127 and (whole == np.rint(whole)).all()
    assert (np.abs(whole * steps[:, None, None, None] - kernel) <= steps[:, None, None, None] * 0.501).all()


def test_the_widest_run_counts_and_single_places_do_not():
    rng = np.random.default_rng(0)
    calm = rng.uniform(-1, 2, (1, 3, 40, 40))
    spiky, wide = calm.copy(), calm.copy()
    spiky[0, :, 3, 3], wide[0, 1] = 99, 5 * calm[0, 1]
    found = widest(lambda x: {"a": x}, {"a": 3}, [calm, spiky, wide])["a"]
    assert (
        found.shape == (2, 3)
        and np.allclose(found[:, [0, 2]], [[-1, -1], [2, 2]], atol=0.1)
        and np.allclose(found[:, 1], [-5, 10], atol=0.4)
    )


def test_one_column_is_not_the_picture():
    x = np.random.default_rng(0).uniform(-1, 1, (1, 2, 256, 256))
    x[..., 0] = 50  # 0.4% of the places
    assert np.allclose(widest(lambda x: {"a": x}, {"a": 2}, [x])["a"], [[-1, -1], [1, 1]], atol=0.05)


def test_a_packed_layer_counts_all_four_pixels_of_a_channel():
    packed = np.zeros((1, 8, 16, 16))
    packed[0, 5] = 7  # the third pixel's second channel of two
    assert np.allclose(widest(lambda x: {"a": x}, {"a": 2}, [packed])["a"], [[0, 0], [0, 7]])


def test_evening_gives_channels_and_kernels_a_like_reach():
    rng = np.random.default_rng(0)
    seen, kernel = np.array([[-0.1, -9, -1.0], [1, 0.5, 30]]), rng.standard_normal((4, 3, 3, 3))
    by = evened(seen, kernel)
    assert (by > 0).tolist() == [True, False, True] and np.isclose(np.abs(by).prod(), 1)
    spread = lambda v: v.max() / v.min()
    assert spread(np.abs(seen / by).max(0)) < spread(np.abs(seen).max(0))


@pytest.mark.parametrize("r,c", [(64, 0.25), (256, 0.25), (256, 1.0), (1024, 0.25)])
def test_int8_pictures_are_near(r, c):
    torch.manual_seed(0)
    weights, rng = (
        {k: v.detach().numpy() for k, v in Generator(r).state_dict().items()},
        np.random.default_rng(0),
    )
    feed = {
        "f": rng.standard_normal((1, 512)).astype(np.float32),
        **photo_inputs(rng.uniform(-1, 1, (1, 3, r, r)).astype(np.float32)),
    }
    found = measure_ranges(weights, r, c, [feed])
    assert {k: v.shape for k, v in found.items()} == {k: (2, n) for k, n in layers(r, c).items()}
    exact = open_session(generator_graph(weights, r, c)).run(None, feed)[0]
    near = open_session(generator_graph(weights, r, c, found)).run(None, feed)[0]
    assert 0 < np.abs(near - exact).mean() < 0.05 * np.abs(exact).mean()


def test_plain_convolutions_in_int8_are_near():
    x = np.random.default_rng(1).standard_normal((1, 32, 16, 16)).astype(np.float32)
    exact, near = (
        open_session(convolutions_graph(32, 16, 2, int8)).run(None, {"x": x})[0] for int8 in (False, True)
    )
    assert 0 < np.abs(near - exact).mean() < 0.03


@pytest.mark.parametrize("least,most", [(0.0, 0.0), (1.0, 2.0), (-2.0, -1.0)])
def test_a_range_without_zero_gets_it(least, most):
    """The borders are padded with zeros, so 0 must be a step."""
    b, x = Builder(), np.full((1, 4, 8, 8), (least + most) / 2, np.float32)
    kernel = np.random.default_rng(0).standard_normal((4, 4, 3, 3))
    y = b.convolution_int8("x", kernel, np.zeros(4), least, most)
    run = open_session(b.model({"x": [1, 4, 8, 8]}, y, [1, 4, 8, 8])).run(None, {"x": x})[0]
    assert np.allclose(run[0, :, 4, 4], kernel.sum((1, 2, 3)) * x[0, 0, 0, 0], atol=0.3) and np.allclose(
        run[0, :, 0, 0], kernel[:, :, 1:, 1:].sum((1, 2, 3)) * x[0, 0, 0, 0], atol=0.3
    )


@pytest.mark.skipif(
    not uses_openvino() or quickest_precision() != "i8", reason="int8 is not what this processor is quick in"
)
@pytest.mark.parametrize("r,c", [(64, 0.25), (256, 0.25)])
def test_openvino_computes_what_the_graph_says(engine, r, c, monkeypatch):
    """In whole numbers as in ONNX Runtime, but for ties that a last bit rounds the other way: beside fp32 nothing is rounded that the graph does
    not round, and bf16 between the layers adds little."""
    arrays = engine.weights.part("generator")
    graph = generator_graph(arrays, r, c, engine.weights.ranges(r, c))
    rng = np.random.default_rng(0)
    f, photos = (
        rng.standard_normal((1, 512)).astype(np.float32),
        photo_inputs(rng.uniform(-1, 1, (1, 3, r, r)).astype(np.float32)),
    )
    session, exact, shipped = (
        open_session(graph),
        open_session(generator_graph(arrays, r, c)),
        open_submodel(graph, 2, "i8"),
    )
    monkeypatch.setattr(runtime, "half_precision", lambda: "f32")
    ours = open_submodel(graph, 2, "i8")
    for alpha in (0, 0.4):
        feed = {"f": f + np.float32(alpha) * engine.weights.age_vector, **photos}
        expected, truth = session.run(None, feed)[0], exact.run(None, feed)[0]
        lost = np.abs(expected - truth).mean()
        assert (
            np.abs(ours(feed) - expected).mean() < 0.5 * lost
            and np.abs(shipped(feed) - truth).mean() < 1.2 * lost
        )


def test_what_ships_has_ranges_for_every_layer():
    weights = Weights()
    for rc in weights.candidates:
        assert {k: v.shape for k, v in weights.ranges(*rc).items()} == {
            k: (2, n) for k, n in layers(*rc).items()
        }
    del weights.manifest["files"][RANGES]
    assert weights.ranges(64, 0.25) == {}


@pytest.mark.parametrize("submodel", [(256, 1.0), (64, 0.25)])
def test_an_edit_in_int8_is_the_edit(engine, submodel):
    """On portraits that the ranges were not measured on: the change differs by less than one level of 255."""
    r, c = submodel
    arrays, n = engine.weights.part("generator"), engine.weights.age_vector
    exact, near = (
        open_session(generator_graph(arrays, r, c, found)) for found in (None, engine.weights.ranges(r, c))
    )
    editor = AgeEditor(engine)
    editor.set_photo(load_photo(PORTRAITS[0]))
    prepared = editor.prepare(0)
    photos = engine.inputs(prepared.crop, r)
    run = lambda session, alpha: (
        session.run(None, {"f": prepared.f + np.float32(alpha) * n, **photos})[0] * 127.5
    )
    changes = [run(session, 12) - run(session, 0) for session in (exact, near)]
    assert np.abs(changes[0] - changes[1]).mean() < 1 < np.abs(changes[0]).mean()
