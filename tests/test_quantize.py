"""int8: kernels and inputs in whole numbers, and pictures that stay what they are; where they do not, another
precision.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import PORTRAITS, ROOT

import agedit.engine
from agedit import AgeEditor, Engine, load_photo
from agedit.network.generator import Generator
from agedit.runtime import (
    backends,
    map_features,
    measure_ranges,
    open_session,
    open_submodel,
    precision,
    quickest_precision,
    uses_openvino,
)
from agedit.runtime.graphs import Builder, convolutions_graph, generator_graph, photo_inputs
from agedit.runtime.int8 import evened, whole_numbers, widest
from agedit.runtime.precision import MOST_LEVELS, Quickest, difference, tolerance
from agedit.submodel import layers
from agedit.weights import RANGES, Weights

OPENVINO = pytest.mark.skipif(not uses_openvino(), reason="OpenVINO is not installed")


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

    def spread(v):
        return v.max() / v.min()

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


@pytest.mark.processor
@pytest.mark.skipif(
    not uses_openvino() or quickest_precision() != "i8",
    reason="int8 is not used on this processor: not quick, or wrong",
)
@pytest.mark.parametrize("r,c", [(64, 0.25), (256, 0.25)])
def test_openvino_computes_what_the_graph_says(engine, r, c, monkeypatch):
    """In whole numbers as in ONNX Runtime, but for ties that a last bit rounds the other way: beside fp32
    nothing is rounded that the graph does not round, and bf16 between the layers adds little.
    """
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
    monkeypatch.setattr(backends, "half_precision", lambda: "f32")
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

    def run(session, alpha):
        return session.run(None, {"f": prepared.f + np.float32(alpha) * n, **photos})[0] * 127.5

    changes = [run(session, 12) - run(session, 0) for session in (exact, near)]
    assert np.abs(changes[0] - changes[1]).mean() < 1 < np.abs(changes[0]).mean()


def feed_of(engine, portrait, r, alpha):
    """What `Engine.submodel` reads of a portrait, shifted by alpha."""
    editor = AgeEditor(engine)
    editor.set_photo(load_photo(portrait))
    prepared = editor.prepare(0)
    shifted = prepared.f + np.float32(alpha) * engine.weights.age_vector[None]
    return {"w": map_features(engine._part("generator.mapping"), shifted), **engine.inputs(prepared.crop, r)}


@pytest.mark.processor
@OPENVINO
@pytest.mark.parametrize("r,c", [(64, 0.25), (256, 0.25), (256, 1.0)])
def test_what_this_processor_computes_is_right(engine, r, c):
    """In whichever precision was chosen, of faces that it was not chosen by, in sub-models that it was not
    chosen by.
    """
    exact = open_session(generator_graph(engine.weights.part("generator"), r, c, mapped=True))
    run = engine.submodel(r, c)
    for portrait, alpha in ((PORTRAITS[2], 0), (PORTRAITS[5], 9)):
        feed = feed_of(engine, portrait, r, alpha)
        assert difference([run(feed)], [exact.run(None, feed)[0]]) < MOST_LEVELS


@pytest.mark.processor
@OPENVINO
@pytest.mark.parametrize("most", ["", "AVX2", "SSE41"])
def test_int8_is_used_only_where_it_is_right(most):
    """On this processor, as one with AVX2 alone, whose int8 saturates, and as one that has no int8 at all."""
    code = (
        "import json; from agedit import Engine; from agedit.runtime import precision\n"
        "precision.precisions = lambda: precision.Quickest('f32', 'i8')\n"  # as if it was quick
        "engine = Engine(); chosen = engine.chosen_precision; judge = engine._judge()\n"
        "run = engine.submodel(*judge.submodel); exact = judge._exact_pictures(judge._graph('f32'))\n"
        "apart = precision.difference([run(feed) for feed in judge.feeds], exact)\n"
        "ours = type(run).__name__ == 'function'  # OpenVINO's; ONNX Runtime's is a partial\n"
        "print(json.dumps([chosen.name, chosen.reason, apart, engine.runtime, ours]))"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("ONEDNN_MAX_CPU_ISA", "AGEDIT_RUNTIME")}
    env |= {"PYTHONPATH": str(ROOT)} | ({"ONEDNN_MAX_CPU_ISA": most} if most else {})
    result = subprocess.run(
        [sys.executable, "-c", code], env=env, check=False, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    name, reason, apart, called, in_openvino = json.loads(result.stdout.splitlines()[-1])
    assert apart < MOST_LEVELS and "int8" in reason
    if in_openvino:
        assert called.split()[0] == "openvino" and called.split()[2].split("+")[0] == name
    else:
        assert called.split()[0] == "onnxruntime" and name == "f32"
    if most:
        assert name == "f32" and ("wrong" in reason or "cannot compute" in reason)


WRONG = {
    "saturated": lambda picture: np.clip(picture, -0.6, 0.6),
    "two levels too bright": lambda picture: picture + 2 / 127.5,
    "noise": lambda picture: (
        picture + np.random.default_rng(0).normal(0, 1.5 / 127.5, picture.shape).astype(np.float32)
    ),
    "a pixel aside": lambda picture: np.roll(picture, 1, 3),
    "red and blue swapped": lambda picture: picture[:, ::-1],
    "black": lambda picture: 0 * picture - 1,
    "one value not a number": lambda picture: np.where(
        np.arange(picture.size).reshape(picture.shape) == 77, np.nan, picture
    ),
    "infinite": lambda picture: picture + np.inf,
}


@pytest.fixture
def emulated(engine, monkeypatch):
    """A processor that is quick in int8 and bf16: spoil(precision, picture) is what it makes of a right one."""  # noqa: E501

    def emulate(spoil):
        def open_emulated(model, threads, name=None):
            session = open_session(model)
            return lambda feed: spoil(name, session.run(None, feed)[0])

        monkeypatch.setattr(backends, "uses_openvino", lambda: True)
        monkeypatch.setattr(precision, "precisions", lambda: Quickest("bf16", "i8"))
        monkeypatch.setattr(backends, "open_submodel", open_emulated)
        monkeypatch.setattr(backends, "opens_in_openvino", lambda model, threads: True)
        monkeypatch.setattr(agedit.engine, "_chosen", {})
        return engine

    return emulate


def test_a_right_int8_is_chosen(emulated):
    chosen = emulated(lambda precision, picture: picture).chosen_precision
    assert chosen.name == "i8" and "right" in chosen.reason


@pytest.mark.parametrize("name", WRONG)
def test_wrong_pictures_are_not_chosen_whatever_the_cause(emulated, name):
    """Of int8: the next is bf16. Of both: fp32."""

    def spoil(precision, picture):
        return WRONG[name](picture)

    engine = emulated(lambda precision, picture: spoil(precision, picture) if precision == "i8" else picture)
    chosen = engine.chosen_precision
    assert (
        chosen.name == "bf16" == engine.precision and "int8 is quick on this processor, but" in chosen.reason
    )
    agedit.engine._chosen.clear()
    assert emulated(spoil).chosen_precision.name == "f32"


def test_a_precision_that_cannot_be_computed_is_not_chosen(emulated):
    def refuse(precision, picture):
        raise RuntimeError("no such primitive")

    chosen = emulated(refuse).chosen_precision
    assert chosen.name == "f32" and "cannot compute in int8" in chosen.reason


def test_int8_without_measured_ranges_is_not_chosen(emulated, monkeypatch):
    engine = emulated(lambda precision, picture: picture)
    monkeypatch.setattr(Weights, "has_ranges", False)
    chosen = engine.chosen_precision
    assert chosen.name == "bf16" and "ranges were not measured" in chosen.reason


def test_pictures_are_judged_once_a_process(emulated):
    count = []

    def right(precision, picture):
        count.append(precision)
        return picture

    engine = emulated(right)
    assert engine.precision == Engine(engine.weights).precision == "i8"
    assert count == ["i8"] * 2  # the face as it is, and older


def test_the_profile_says_which_precision_was_chosen(emulated, monkeypatch, tmp_path):
    from agedit.selection.tuner import Tuner

    monkeypatch.setattr(backends, "half_precision", lambda: "bf16")
    right = emulated(lambda precision, picture: picture)
    assert Tuner(right, tmp_path).device["runtime"].endswith("i8+bf16")
    wrong = emulated(lambda precision, picture: -picture if precision == "i8" else picture)
    assert Tuner(wrong, tmp_path).device["runtime"].endswith(" bf16")


def test_rounding_alone_bounds_int8():
    assert tolerance() == MOST_LEVELS == tolerance(100) and 0.4 < tolerance(0.4) < 0.8
    one = np.zeros((1, 3, 8, 8), np.float32)
    assert difference([one, one + 1 / 127.5], [one, one]) == pytest.approx(1)
    assert np.isnan(difference([one, one * np.nan], [one, one]))
