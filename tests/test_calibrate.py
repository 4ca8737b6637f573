"""Stage `calibrate`: its third judge, and sub-models that follow the one that was measured."""

import io
import json
import tarfile

import numpy as np
import pytest

from agedit.errors import AgeEditError
from agedit.estimators import judge_crop
from agedit.training.calibrate import (
    AGES,
    BLURS,
    FURTHER,
    SEEN,
    STRONGEST,
    TABLE_NODES,
    YEARS,
    Sample,
    choose_faces,
    fit_surface,
    follow,
    invert,
    measure_alphas,
    wanted_years,
)
from agedit.training.third_judge import AGE, CHIP, FEATURES, MEAN_BGR, PIXELS, ThirdJudge


def node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def package(path, nodes, weights):
    """A package of npm with a TensorFlow.js graph in it, its weights in half precision."""
    specs = [
        {"name": name, "shape": list(w.shape), "dtype": "float32", "quantization": {"dtype": "float16"}}
        for name, w in weights.items()
    ]
    graph = {"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": specs}]}
    data = b"".join(w.astype(np.float16).tobytes() for w in weights.values())
    with tarfile.open(path, "w:gz") as archive:
        for end, content in ((".json", json.dumps(graph).encode()), (".bin", data)):
            info = tarfile.TarInfo(f"package/models/faceres{end}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A network of known answers: the mean of every second pixel of each channel, and the bluer the older."""
    stride = {"strides": {"list": {"i": ["1", "2", "2", "1"]}}}
    kernel = np.zeros((3, 3, 3, 3))
    kernel[0, 0] = np.eye(3)  # the pixel above and left: which one that is tells how borders are padded
    product = np.zeros((3, 2))
    product[0, 1] = 1 / 64
    nodes = [
        node("input_1", "Placeholder"),
        node("kernel", "Const"),
        node("conv", "Conv2D", "input_1", "kernel", **stride),
        node("halves", "Mul", "conv", "half"),
        node(FEATURES, "Mean", "halves", "axes"),
        node("score", "_FusedMatMul", FEATURES, "product", "bias", fused_ops={"list": {"s": ["BiasAdd"]}}),
        node(AGE, "Softmax", "score"),
    ]
    weights = {
        "kernel": kernel,
        "half": np.full(3, 0.5),
        "axes": np.zeros(2),
        "product": product,
        "bias": np.zeros(2),
    }
    return ThirdJudge(package(tmp_path_factory.mktemp("judge") / "human.tgz", nodes, weights))


def test_the_third_judge_computes_its_graph(judge):
    crop = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    bgr = judge_crop(crop, CHIP, PIXELS)[::-1] - MEAN_BGR[:, None, None]
    wanted = bgr[:, ::2, ::2].mean((1, 2)) / 2
    assert judge.features(crop) == pytest.approx(wanted, abs=1e-3)
    assert judge.age(crop) == pytest.approx(1 / (1 + np.exp(-wanted[0] / 64)), abs=1e-4)


def test_the_third_judge_sees_the_face_alone(judge):
    crop = np.full((512, 512, 3), 90, np.uint8)
    around = crop.copy()
    around[:130] = 255
    around[:, :90] = 0
    inside = crop.copy()
    inside[200:300, 200:300] = 255
    assert judge.age(around) == judge.age(crop) < judge.age(inside)


def test_another_package_is_one_sentence(tmp_path):
    path = tmp_path / "other.tgz"
    path.write_bytes(b"no archive")
    with pytest.raises(AgeEditError, match="npm pack"):
        ThirdJudge(path)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/package.json"), io.BytesIO())
    with pytest.raises(AgeEditError, match="npm pack"):
        ThirdJudge(path)


OLD = [0.5 * abs(years) ** 1.1 * np.sign(years) for years in YEARS]


def test_a_submodel_follows_the_one_that_was_measured():
    """What stood at equal years still does, at whichever alpha those years now lie."""
    limits = {1: 100.0, -1: 100.0}
    other = [1.1 * alpha + 0.005 * alpha * abs(alpha) for alpha in OLD]
    new = [0.7 * alpha for alpha in OLD]
    exact = [1.1 * alpha + 0.005 * alpha * abs(alpha) for alpha in new]
    assert follow(new, OLD, other, limits) == pytest.approx(exact, abs=0.1)
    assert follow(OLD, OLD, other, limits) == pytest.approx(other, abs=1e-3)
    # beyond the end of the old table it goes on by the last proportion, and no further than the limit
    further = follow([2 * alpha for alpha in OLD], OLD, other, limits)
    assert further[-1] == pytest.approx(2 * other[-1], abs=1e-3)
    assert follow([2 * alpha for alpha in OLD], OLD, other, {1: 9.0, -1: 5.0})[::14] == [-5, 9]
    # never much further than the one that was measured
    most = [FURTHER * alpha for alpha in OLD]
    assert follow(OLD, OLD, [3 * alpha for alpha in OLD], limits) == pytest.approx(most, abs=1e-3)
    # where the old one stood still for more years
    still = OLD[:-3] + [OLD[-4]] * 3
    assert follow(still, still, still, limits) == pytest.approx(still, abs=1e-3)
    assert follow(new, OLD, other, limits) == sorted(follow(new, OLD, other, limits))


class Judged:
    """Faces whose judged change is known: so many years a step of alpha, at every age."""

    def __init__(self, years_per_alpha):
        self.years_per_alpha = years_per_alpha

    def samples(self, submodel):
        return [
            Sample(alpha, age, blur, 0.0, self.years_per_alpha * alpha)
            for alpha in np.linspace(-11, 18, 30)
            for age in AGES
            for blur in BLURS
        ]


def test_one_submodel_is_measured_and_all_get_a_table(engine):
    """Networks that are judged stronger than before get lower alphas, in every sub-model."""
    before = engine.weights.calibration
    found = measure_alphas(engine, Judged(5.0), only=(128, 1.0))
    assert found.tables.keys() == set(engine.weights.candidates)
    node = TABLE_NODES[AGES.index(30)]
    measured = found.tables[128, 1.0][node]
    assert measured[YEARS.index(20)] == pytest.approx(20 * SEEN / 5, abs=0.1)
    for r, c in engine.weights.candidates:
        row = found.tables[r, c][node]
        assert row == sorted(row)
        assert row[YEARS.index(0)] == 0
        if (r, c) == engine.weights.full:
            assert max(row) <= STRONGEST[1]
            assert min(row) >= -STRONGEST[-1]
        # as far as the old table's sub-model was at the years that the measured one's alpha stood for
        old = before.alphas[128, 1.0][0][AGES.index(30)]
        years = np.interp(measured[YEARS.index(20)], old, YEARS)
        assert row[YEARS.index(20)] == pytest.approx(before.alpha(years, 30, 0, r, c), abs=0.05)


def test_submodels_do_not_follow_a_table_of_other_nodes(engine, monkeypatch):
    monkeypatch.setitem(engine.weights.manifest["calibration"], "ages", [0])
    with pytest.raises(AgeEditError, match="every sub-model anew"):
        measure_alphas(engine, Judged(5.0), only=(128, 1.0))


class Folder:
    """A prepared folder of four photos, every second one of a person held out, and no pairs."""

    def __init__(self, ages):
        self.judged = np.array(ages)
        self.images = [np.full((2, 2, 5), age, np.uint8) for age in ages]

    def photos(self, held_out=False):
        return np.arange(len(self.judged))[1 - held_out :: 2]

    def people(self, held_out=False):
        return []


def test_photos_as_people_take_them_are_judged_beside_the_labelled_ones():
    labelled = Folder([20, 21, 40, 41, 60, 61])
    casual = Folder([30, 31, 50, 51])
    real, invented = choose_faces(labelled, [casual], 48)
    ages = [int(picture[0, 0, 0]) for picture in real]
    # of the labelled ones the half of the held out that `evaluate` leaves, of the others those not held out
    assert ages == [20, 60, 31, 51]
    assert invented == []


def test_the_slider_ends_where_judges_see_no_more():
    """More alpha only spoils the picture there; a judge that sees nothing at all does not end it."""

    def judged(alpha):
        return 1.5 * min(abs(alpha), 11) * np.sign(alpha)

    alphas = np.linspace(-11, 18, 60)
    weights = fit_surface([Sample(a, age, 0, 0, judged(a)) for a in alphas for age in AGES])
    row = invert(weights, 40, 0, wanted_years())
    assert 9 <= max(row) < 15
    assert row == sorted(row)
    blind = fit_surface([Sample(a, 40, 0, 0, 0.01 * a) for a in alphas])
    assert max(invert(blind, 40, 0)) >= STRONGEST[1] / 2
    assert min(invert(blind, 40, 0)) == -STRONGEST[-1]
